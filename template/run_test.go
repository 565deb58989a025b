package template

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/backends"
	"muster/backends/etcd"
	"muster/internal/etcdtest"
)

// Changes that come close together are rendered together, and none waits longer
// than patience.
func TestChangesAreRenderedTogether(t *testing.T) {
	const quiet = 20 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		f := newFollower(new(Resource), &Config{Quiet: quiet})
		start := time.Now()
		due := func(want time.Duration) {
			t.Helper()
			if f.due.IsZero() {
				t.Fatalf("nothing is due, want %v", want)
			}
			if got := f.due.Sub(start); got != want {
				t.Errorf("due after %v, want %v", got, want)
			}
		}
		put := func(value string) backends.Change {
			return backends.Change{Put: []backends.KV{{Key: "/k", Value: value}}}
		}
		f.take(backends.Change{Full: true})
		due(0)
		f.processed(0, nil)

		start = time.Now()
		f.take(put("1"))
		due(quiet)
		time.Sleep(quiet / 2)
		f.take(backends.Change{Revision: 7}) // says only that the store is there
		f.take(put("1"))                     // what we know
		due(quiet)
		for i := range 100 {
			f.take(put(fmt.Sprint("v", i)))
			time.Sleep(quiet / 2)
		}
		due(patience)
		f.processed(0, nil)
		if !f.due.IsZero() {
			t.Errorf("due at %v after it was processed, want nothing", f.due)
		}

		// A Full that says what we know is no news; one without a key is.
		f.take(backends.Change{Full: true, Put: put("v99").Put})
		if !f.due.IsZero() {
			t.Error("due after a Full that changed nothing")
		}
		f.take(backends.Change{Full: true})
		if f.due.IsZero() || len(f.view.keys) != 0 {
			t.Errorf("keys %v, want none, and due", f.view.keys)
		}

		// What failed is tried again, later each time.
		var waits [8]time.Duration
		for i := range waits {
			f.processed(0, errors.New("no"))
			waits[i] = time.Until(f.due)
		}
		if waits[0] <= 0 || waits[0] > time.Second || waits[7] < 2*waits[0] {
			t.Errorf("waits are %v, want a short one and longer ones", waits)
		}
	})
}

// While a slow reload_cmd runs, changes come in: the file ends as the last one
// says, and nobody waits for a pass per change.
func TestWatchSkipsToTheNewest(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	store, err := etcd.New(etcd.Config{Nodes: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f := newFolder(t, "keys = [\"/n\"]\nreload_cmd = \"sleep 0.3\"\n", `{{getv "/n" "none"}}`, "")
	f.engine.Store = store
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := f.engine.Watch(ctx); err != nil {
			t.Error(err)
		}
	})
	f.until(ctx, "none")
	const puts = 500
	for i := range puts {
		if _, err := server.Client().Put(ctx, "/n", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	f.until(ctx, fmt.Sprint(puts-1))
	if n := f.count(Updated); n >= puts/2 {
		t.Errorf("%d updates for %d puts, want far fewer", n, puts)
	}
}

// until waits for dest to be text.
func (f *folder) until(ctx context.Context, text string) {
	f.t.Helper()
	for {
		got, _ := os.ReadFile(f.path("out/dest"))
		if string(got) == text {
			return
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("dest is %q, want %q", got, text)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	_, err := New(Config{CheckTimeout: -1})
	if err == nil || err.Error() != "template: no store\ntemplate: a command's timeout is negative" {
		t.Errorf("got %v, want both mistakes", err)
	}
}

// -debounce: as long as it says, also beyond patience; less than nothing is at
// once.
func TestQuiet(t *testing.T) {
	for quiet, want := range map[time.Duration]time.Duration{2 * time.Second: 2 * time.Second, -1: 0, DefaultQuiet: DefaultQuiet} {
		synctest.Test(t, func(t *testing.T) {
			f := newFollower(new(Resource), &Config{Quiet: quiet})
			f.take(backends.Change{Full: true})
			f.processed(0, nil)
			f.take(backends.Change{Put: []backends.KV{{Key: "/k", Value: "v"}}})
			if got := max(0, time.Until(f.due)); got != want {
				t.Errorf("quiet %v: due in %v, want %v", quiet, got, want)
			}
			f.processed(300*time.Millisecond, nil)
			if got := time.Until(f.due); got != 300*time.Millisecond || !f.owing {
				t.Errorf("a reload put off: due in %v, owing %v, want 300ms and true", got, f.owing)
			}
			f.take(backends.Change{Deleted: []string{"/k"}}) // news does not wait for that
			if got := max(0, time.Until(f.due)); got != want || !f.owing {
				t.Errorf("quiet %v, a reload put off: due in %v, owing %v, want %v and true", quiet, got, f.owing, want)
			}
		})
	}
}
