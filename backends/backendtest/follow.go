package backendtest

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"muster/backends"
)

// roots are where the suite writes.
var roots = []string{"/suite/", "/suitex/"}

func (h Harness) put(t testing.TB, key, value string) {
	t.Helper()
	h.written[key] = true
	h.Put(t, key, value)
}

func (h Harness) delete(t testing.TB, key string) {
	t.Helper()
	h.Delete(t, key)
}

// clear deletes what an earlier test left.
func (h Harness) clear(t testing.TB) {
	t.Helper()
	for key := range h.written {
		h.Delete(t, key)
	}
	clear(h.written)
}

func (h Harness) open(t testing.TB) backends.Store {
	t.Helper()
	store := h.Open(t)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return store
}

func (h Harness) watch(t testing.TB, prefixes ...string) *follower {
	t.Helper()
	return follow(t, h, h.open(t), prefixes...)
}

// A follower applies what a Watch yields, and checks each Change on the way.
type follower struct {
	t      testing.TB
	h      Harness
	mine   bool // look at the suite's own keys only
	pulled func() (backends.Change, error, bool)
	stop   func()

	state    map[string]backends.KV
	seen     map[string][]string // by key, the values it went through
	fulls    int
	revision int64
}

func follow(t testing.TB, h Harness, store backends.Store, prefixes ...string) *follower {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	next, stop := iter.Pull2(store.Watch(ctx, prefixes))
	w := &follower{t: t, h: h, pulled: next, state: make(map[string]backends.KV), seen: make(map[string][]string)}
	w.stop = func() { stop(); cancel() }
	t.Cleanup(w.stop)
	return w
}

// pull waits for what comes next, a Change or an error.
func (w *follower) pull() (backends.Change, error) {
	w.t.Helper()
	c, err, ok := w.pulled()
	if !ok {
		w.t.Fatalf("the Watch ended after %v with %v", patience, w.values())
	}
	if err == nil {
		w.apply(c)
	}
	return c, err
}

// next waits for the next Change of a store that is not away.
func (w *follower) next() backends.Change {
	w.t.Helper()
	c, err := w.pull()
	if err != nil {
		w.t.Fatalf("got an error of a store that is there: %v", err)
	}
	return c
}

// want is what the keys and values must be now, as KEY=VALUE.
func (w *follower) want(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.values(); !slices.Equal(got, want) {
		w.t.Fatalf("got %v, want %v", got, want)
	}
}

// until waits until the keys and values are those.
func (w *follower) until(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	for !slices.Equal(w.values(), want) {
		c, err, ok := w.pulled()
		if !ok {
			w.t.Fatalf("after %v got %v, want %v", patience, w.values(), want)
		}
		if err == nil {
			w.apply(c)
		}
	}
}

func (w *follower) values() []string {
	values := []string{}
	for _, key := range slices.Sorted(maps.Keys(w.state)) {
		ours := slices.ContainsFunc(roots, func(root string) bool { return strings.HasPrefix(key, root) })
		if ours || !w.mine {
			values = append(values, key+"="+w.state[key].Value)
		}
	}
	return values
}

func (w *follower) apply(c backends.Change) {
	t := w.t
	t.Helper()
	if w.fulls == 0 && !c.Full {
		t.Errorf("got %+v before a Full Change", c)
	}
	if w.h.Revisions && c.Revision < w.revision {
		t.Errorf("the revision went from %d to %d", w.revision, c.Revision)
	}
	w.revision = c.Revision
	before := w.state
	if c.Full {
		w.fulls++
		w.state = make(map[string]backends.KV)
	}
	touched := make(map[string]bool)
	once := func(key string) {
		if touched[key] {
			t.Errorf("%q comes twice in %+v", key, c)
		}
		touched[key] = true
	}
	for _, kv := range c.Put {
		once(kv.Key)
		if w.h.Revisions && (kv.Created <= 0 || kv.Modified < kv.Created || kv.Modified > c.Revision) {
			t.Errorf("at revision %d: got %+v, want 0 < Created <= Modified <= revision", c.Revision, kv)
		}
		if old, ok := before[kv.Key]; ok && old == kv && !c.Full {
			t.Errorf("%+v was put again, though nothing changed", kv)
		}
		if before[kv.Key].Value != kv.Value {
			w.seen[kv.Key] = append(w.seen[kv.Key], kv.Value)
		}
		w.state[kv.Key] = kv
	}
	for _, key := range c.Deleted {
		once(key)
		if _, ok := w.state[key]; !ok && !w.h.Revisions {
			t.Errorf("%q was deleted, though it was not there", key)
		}
		delete(w.state, key)
	}
}
