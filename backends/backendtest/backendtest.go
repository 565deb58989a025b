// Package backendtest is the contract of backends.Store as a test suite: every
// store is held to the same promises.
//
//	func TestContract(t *testing.T) {
//		backendtest.Run(t, backendtest.Harness{Open: …, Put: …, Delete: …})
//	}
//
// All keys it writes lie under /suite, or beside it under names that begin like
// that, and consist of lower case letters, digits and slashes; no key is also
// the folder of another. So stores that hold a tree, or spell keys in their own
// way, can be tested too.
package backendtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/backends"
)

// A Harness is how the suite reaches one kind of store. Open, Put and Delete
// must be set.
type Harness struct {
	// Open returns a store on the keys that Put and Delete change. The suite
	// closes it. It must not fail because the store is away.
	Open func(t testing.TB) backends.Store

	// Put and Delete change the store from outside, and return when it is done.
	// Delete of a key that is not there is no error.
	Put    func(t testing.TB, key, value string)
	Delete func(t testing.TB, key string)

	// Stop makes the store unreachable and Start reachable again, with its keys.
	// Without them the suite skips what needs them.
	Stop, Start func(t testing.TB)

	// ByString says that the store is opened to match prefixes by string
	// ([backends.HasPrefix]), not by element ([backends.Under]).
	ByString bool

	// Revisions says that the store has revisions of its own: KVs come with
	// Created and Modified.
	Revisions bool

	written map[string]bool // the keys to delete before the next test
}

// patience bounds what must happen; on a busy machine it takes a while.
const patience = 60 * time.Second

// Run runs the suite against h.
func Run(t *testing.T, h Harness) {
	h.written = make(map[string]bool)
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"the first change is full", firstIsFull},
		{"the first change of no keys is full", firstOfNothing},
		{"later changes come in order and none is lost", laterChanges},
		{"prefixes match", matching},
		{"several prefixes", severalPrefixes},
		{"everything", everything},
		{"a quiet store says so", quiet},
		{"a slow loop loses nothing", slowLoop},
		{"watches do not disturb each other", twoWatches},
		{"a watch ends with its context", endsWithContext},
		{"a watch ends when the loop leaves", endsWithLoop},
		{"away before the first change", awayAtFirst},
		{"away for a while", awayForAWhile},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.clear(t)
			t.Cleanup(func() { h.clear(t) })
			test.run(t, h)
		})
	}
}

func firstIsFull(t *testing.T, h Harness) {
	h.put(t, "/suite/a/1", "10.0.0.1:80")
	h.put(t, "/suite/a/2", "10.0.0.2:80")
	h.put(t, "/suite/b/1", "two words")
	w := h.watch(t, "/suite")
	c := w.next()
	if !c.Full || len(c.Deleted) > 0 {
		t.Errorf("the first Change: got %+v, want Full and nothing deleted", c)
	}
	w.want("/suite/a/1=10.0.0.1:80", "/suite/a/2=10.0.0.2:80", "/suite/b/1=two words")
}

func firstOfNothing(t *testing.T, h Harness) {
	w := h.watch(t, "/suite")
	if c := w.next(); !c.Full || len(c.Put) > 0 || len(c.Deleted) > 0 {
		t.Errorf("the first Change: got %+v, want Full and nothing else", c)
	}
	h.put(t, "/suite/a", "1")
	w.until("/suite/a=1")
}

func laterChanges(t *testing.T, h Harness) {
	h.put(t, "/suite/stays/1", "x")
	w := h.watch(t, "/suite")
	w.until("/suite/stays/1=x")
	for i := range 20 {
		h.put(t, "/suite/count", fmt.Sprint(i))
	}
	w.until("/suite/stays/1=x", "/suite/count=19")
	h.put(t, "/suite/new", "1")
	h.delete(t, "/suite/count")
	w.until("/suite/stays/1=x", "/suite/new=1")
	h.put(t, "/suite/count", "again")
	w.until("/suite/stays/1=x", "/suite/new=1", "/suite/count=again")
	if w.fulls > 1 {
		t.Errorf("got %d Full Changes from a store that was never away, want 1", w.fulls)
	}
	last := -1
	for _, value := range w.seen["/suite/count"] {
		if n := 0; value != "again" {
			if _, err := fmt.Sscan(value, &n); err != nil || n <= last {
				t.Errorf("/suite/count went %v, want ascending", w.seen["/suite/count"])
				break
			}
			last = n
		}
	}
}

func matching(t *testing.T, h Harness) {
	h.put(t, "/suite/web/1", "in")
	h.put(t, "/suitex/web", "out")
	h.put(t, "/suite/webdav", "beside")
	w := h.watch(t, "/suite/web")
	w.next()
	if h.ByString {
		w.want("/suite/web/1=in", "/suite/webdav=beside")
	} else {
		w.want("/suite/web/1=in")
	}
	h.put(t, "/suite/webdav", "changed")
	h.put(t, "/suite/other", "out")
	h.put(t, "/suite/web/2", "in")
	if h.ByString {
		w.until("/suite/web/1=in", "/suite/web/2=in", "/suite/webdav=changed")
	} else {
		w.until("/suite/web/1=in", "/suite/web/2=in")
	}

	// A key is below itself.
	self := h.watch(t, "/suite/other")
	self.next()
	self.want("/suite/other=out")
	h.put(t, "/suite/other", "changed")
	self.until("/suite/other=changed")
}

func severalPrefixes(t *testing.T, h Harness) {
	h.put(t, "/suite/a/1", "1")
	h.put(t, "/suite/b/1", "1")
	h.put(t, "/suite/c/1", "1")
	// One holds another, and one comes twice.
	w := h.watch(t, "/suite/a", "/suite/c/1", "/suite/c", "/suite/a/")
	w.next()
	w.want("/suite/a/1=1", "/suite/c/1=1")
	h.put(t, "/suite/b/1", "2")
	h.put(t, "/suite/c/1", "2")
	h.delete(t, "/suite/a/1")
	w.until("/suite/c/1=2")
}

func everything(t *testing.T, h Harness) {
	h.put(t, "/suite/a", "1")
	h.put(t, "/suitex/web", "2")
	for _, prefix := range []string{"", "/"} {
		w := h.watch(t, prefix)
		w.mine = true
		w.next()
		w.want("/suite/a=1", "/suitex/web=2")
	}
}

func quiet(t *testing.T, h Harness) {
	h.put(t, "/suite/a", "1")
	w := h.watch(t, "/suite")
	first := w.next()
	for range 4 {
		c := w.next()
		if c.Full || len(c.Put) > 0 || len(c.Deleted) > 0 {
			t.Errorf("from a quiet store: got %+v, want a Change with nothing", c)
		}
		if c.Revision < first.Revision {
			t.Errorf("the revision went from %d to %d", first.Revision, c.Revision)
		}
	}
}

func slowLoop(t *testing.T, h Harness) {
	w := h.watch(t, "/suite")
	w.next()
	for i := range 50 {
		h.put(t, fmt.Sprintf("/suite/n%d", i%10), fmt.Sprint(i))
		h.delete(t, "/suite/comes")
		h.put(t, "/suite/comes", fmt.Sprint(i))
	}
	time.Sleep(2 * time.Second) // the loop body is at work
	h.delete(t, "/suite/comes")
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("/suite/n%d=%d", i, 40+i))
	}
	w.until(want...)
}

func twoWatches(t *testing.T, h Harness) {
	store := h.open(t)
	a := follow(t, h, store, "/suite/a")
	b := follow(t, h, store, "/suite/b")
	a.next()
	b.next()
	h.put(t, "/suite/a/1", "1")
	h.put(t, "/suite/b/1", "1")
	b.until("/suite/b/1=1")
	a.until("/suite/a/1=1")
	a.stop()
	h.put(t, "/suite/b/1", "2")
	b.until("/suite/b/1=2")
}

func endsWithContext(t *testing.T, h Harness) {
	h.put(t, "/suite/a", "1") // and make Put's own goroutines, if it has some
	running := goleak.IgnoreCurrent()
	store := h.Open(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	for _, err := range store.Watch(ctx, []string{"/suite"}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			cancel()
		}
		if n > 3 {
			t.Fatalf("the Watch goes on after its context ended")
		}
	}
	if err := store.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	goleak.VerifyNone(t, running)
}

func endsWithLoop(t *testing.T, h Harness) {
	h.put(t, "/suite/a", "1")
	running := goleak.IgnoreCurrent()
	store := h.Open(t)
	for _, err := range store.Watch(context.Background(), []string{"/suite"}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if err := store.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	goleak.VerifyNone(t, running)
}

func awayAtFirst(t *testing.T, h Harness) {
	if h.Stop == nil {
		t.Skip("the store can't be away")
	}
	h.put(t, "/suite/a", "1")
	h.Stop(t)
	start := onceStarted(t, h)
	w := h.watch(t, "/suite")
	if c, err := w.pull(); err == nil {
		t.Fatalf("away: got %+v, want an error", c)
	}
	start()
	w.until("/suite/a=1")
}

func awayForAWhile(t *testing.T, h Harness) {
	if h.Stop == nil {
		t.Skip("the store can't be away")
	}
	h.put(t, "/suite/stays", "1")
	h.put(t, "/suite/goes", "1")
	w := h.watch(t, "/suite")
	w.until("/suite/stays=1", "/suite/goes=1")
	h.Stop(t)
	start := onceStarted(t, h)
	for {
		if _, err := w.pull(); err != nil {
			break
		}
	}
	start()
	h.delete(t, "/suite/goes")
	h.put(t, "/suite/comes", "1")
	w.until("/suite/stays=1", "/suite/comes=1")
}

// onceStarted is h.Start, which also happens when the test fails before it.
func onceStarted(t *testing.T, h Harness) func() {
	started := false
	start := func() {
		if !started {
			started = true
			h.Start(t)
		}
	}
	t.Cleanup(start)
	return start
}
