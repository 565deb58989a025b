package etcd_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"muster/backends"
)

// A tail runs a Watch on a goroutine and keeps what it yielded, and what that
// did to the keys.
type tail struct {
	t    testing.TB
	stop func()
	news chan struct{} // slot of one

	mu      sync.Mutex // guards what follows
	state   map[string]backends.KV
	errs    []error
	changes int
	empty   int // of these, with neither Put nor Deleted
	fulls   int
	diffs   []string // what applying changed, "put KEY" or "delete KEY"
	last    backends.Change
}

// follow watches until the test ends, or stop is called. body is what the loop
// does with each Change besides; it may be nil.
func follow(t testing.TB, s backends.Store, body func(backends.Change), prefixes ...string) *tail {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &tail{t: t, news: make(chan struct{}, 1), state: make(map[string]backends.KV)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for c, err := range s.Watch(ctx, prefixes) {
			w.add(c, err)
			select {
			case w.news <- struct{}{}:
			default:
			}
			if err == nil && body != nil {
				body(c)
			}
		}
	})
	w.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(w.stop)
	return w
}

func (w *tail) add(c backends.Change, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.errs = append(w.errs, err)
		return
	}
	if w.changes == 0 && !c.Full {
		w.t.Errorf("the first Change is not Full: %+v", c)
	}
	w.changes++
	w.last = c
	if len(c.Put)+len(c.Deleted) == 0 && !c.Full {
		w.empty++
	}
	gone := make(map[string]bool)
	if c.Full {
		w.fulls++
		for key := range w.state {
			gone[key] = true
		}
	}
	for _, key := range c.Deleted {
		gone[key] = true
	}
	for _, kv := range c.Put {
		if gone[kv.Key] && !c.Full {
			w.t.Errorf("%q is in Put and in Deleted", kv.Key)
		}
		delete(gone, kv.Key)
		if w.state[kv.Key] != kv {
			w.diffs = append(w.diffs, "put "+kv.Key)
		}
		w.state[kv.Key] = kv
	}
	for key := range gone {
		if _, ok := w.state[key]; ok {
			w.diffs = append(w.diffs, "delete "+key)
		}
		delete(w.state, key)
	}
}

// until waits until f holds. f reads w's fields.
func (w *tail) until(what string, f func() bool) {
	w.t.Helper()
	ctx := within(w.t)
	for {
		w.mu.Lock()
		ok := f()
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-w.news:
		case <-ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("after %v still not: %s\nstate %.1000s\nerrors %v\n%d changes, %d empty, %d full, diffs %.1000s, last %.1000s",
				patience, what, fmt.Sprint(w.values()), w.errs, w.changes, w.empty, w.fulls, fmt.Sprint(w.diffs), fmt.Sprintf("%+v", w.last))
		}
	}
}

// has waits until the keys and values are those, as KEY=VALUE.
func (w *tail) has(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	w.until(fmt.Sprintf("the keys are %v", want), func() bool { return slices.Equal(w.values(), want) })
}

// alive waits for n more Changes with nothing in them.
func (w *tail) alive(n int) {
	w.t.Helper()
	w.mu.Lock()
	want := w.empty + n
	w.mu.Unlock()
	w.until("the store is alive", func() bool { return w.empty >= want })
}

// broken waits for the error of a break.
func (w *tail) broken() {
	w.t.Helper()
	w.until("there is an error", func() bool { return len(w.errs) > 0 })
}

// mark starts to count anew.
func (w *tail) mark() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs, w.changes, w.empty, w.fulls, w.diffs = nil, 1, 0, 0, nil
}

// since says what happened since mark, sorted: "1 errors, 1 full, put /k".
func (w *tail) since() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	diffs := slices.Sorted(slices.Values(w.diffs))
	return strings.Join(append([]string{fmt.Sprintf("%d errors, %d full", len(w.errs), w.fulls)}, diffs...), ", ")
}

func (w *tail) want(want string) {
	w.t.Helper()
	if got := w.since(); got != want {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t.Errorf("got %q, want %q; errors: %v", got, want, w.errs)
	}
}

// counts checks how many errors and Full Changes came since mark.
func (w *tail) counts(errs, fulls int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errs) != errs || w.fulls != fulls {
		w.t.Errorf("got %d Full and errors %v, want %d and %d", w.fulls, w.errs, fulls, errs)
	}
}

// said checks that an error holds text.
func (w *tail) said(text string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.errs, func(err error) bool { return strings.Contains(err.Error(), text) }) {
		w.t.Errorf("errors: got %v, want one with %q", w.errs, text)
	}
}

func (w *tail) values() []string {
	values := []string{}
	for key := range w.state {
		values = append(values, key+"="+w.state[key].Value)
	}
	slices.Sort(values)
	return values
}
