package backends

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A script is a store whose Watch yields what comes through the channel.
type script chan any // Change or error

func (s script) Watch(ctx context.Context, _ []string) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case item, ok := <-s:
				if !ok {
					return
				}
				c, _ := item.(Change)
				err, _ := item.(error)
				if !yield(c, err) {
					return
				}
			}
		}
	}
}

func (script) Close() error { return nil }

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func next(t *testing.T, f *Feed) Change {
	t.Helper()
	c, err := f.Next(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(revision int64, key, value string) Change {
	return Change{Revision: revision, Put: []KV{kv(key, value)}}
}

func TestFeedMergesWhatNobodyTook(t *testing.T) {
	s := make(script)
	f := NewFeed(t.Context(), s, "/")
	defer f.Close()
	s <- Change{Revision: 1, Full: true, Put: []KV{kv("a", "1"), kv("b", "1")}}
	want := Change{Revision: 1, Full: true, Put: []KV{kv("a", "1"), kv("b", "1")}}
	if diff := cmp.Diff(want, next(t, f)); diff != "" {
		t.Errorf("the first: -want +got\n%s", diff)
	}
	s <- put(2, "b", "2")
	s <- put(3, "a", "3")
	s <- Change{Revision: 4, Deleted: []string{"b"}}
	s <- put(5, "b", "5")
	s <- Change{Revision: 6, Deleted: []string{"a", "c", "e"}, Final: []KV{kv("e", "0"), kv("f", "0")}}
	s <- put(7, "f", "1")
	close(s)
	<-f.done // everything was taken in
	want = Change{Revision: 7, Put: []KV{kv("b", "5"), kv("f", "1")}, Deleted: []string{"a", "c", "e"}, Final: []KV{kv("a", "3"), kv("e", "0")}}
	if diff := cmp.Diff(want, next(t, f)); diff != "" {
		t.Errorf("the sum: -want +got\n%s", diff)
	}
	if c, err := f.Next(within(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: got %+v, %v, want ErrClosed", c, err)
	}
}

func TestFeedFullReplacesWhatWasMerged(t *testing.T) {
	s := make(script, 10)
	s <- put(1, "a", "1")
	s <- Change{Revision: 2, Deleted: []string{"b"}}
	s <- Change{Revision: 3, Full: true, Put: []KV{kv("b", "3"), kv("c", "3")}}
	s <- Change{Revision: 4, Deleted: []string{"c"}}
	s <- put(5, "d", "5")
	close(s)
	f := NewFeed(t.Context(), s)
	defer f.Close()
	<-f.done
	want := Change{Revision: 5, Full: true, Put: []KV{kv("b", "3"), kv("d", "5")}, Final: []KV{kv("c", "3")}}
	if diff := cmp.Diff(want, next(t, f)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestFeedErrorComesBeforeLaterChangesAndTheNewestCounts(t *testing.T) {
	s := make(script, 10)
	s <- put(1, "a", "1")
	s <- errors.New("first")
	s <- put(2, "a", "2")
	s <- errors.New("second")
	s <- put(3, "b", "3")
	close(s)
	f := NewFeed(t.Context(), s)
	defer f.Close()
	<-f.done
	if _, err := f.Next(within(t)); err == nil || err.Error() != "second" {
		t.Errorf("got %v, want the second error", err)
	}
	want := Change{Revision: 3, Put: []KV{kv("a", "2"), kv("b", "3")}}
	if diff := cmp.Diff(want, next(t, f)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestFeedSaysThatTheStoreIsAlive(t *testing.T) {
	s := make(script)
	f := NewFeed(t.Context(), s)
	defer f.Close()
	s <- Change{Revision: 1}
	if diff := cmp.Diff(Change{Revision: 1}, next(t, f)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with a context that ended: got %v", err)
	}
}

func TestFeedEndsWithItsContextAndClose(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := NewFeed(ctx, make(script))
	cancel()
	if _, err := f.Next(within(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("after its context ended: got %v, want ErrClosed", err)
	}
	f.Close()
	f.Close() // once more is nothing
	g := NewFeed(t.Context(), make(script))
	g.Close()
	if _, err := g.Next(within(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
}

// Whenever the reader takes, and however much was merged by then: applying what
// it got leads to the same keys as applying every Change.
func TestMergeIsTheSameAsOneByOne(t *testing.T) {
	key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
	change := rapid.Custom(func(t *rapid.T) Change {
		keys := rapid.SliceOfNDistinct(key, 0, 4, rapid.ID).Draw(t, "keys")
		c := Change{Full: rapid.IntRange(0, 5).Draw(t, "full") == 0}
		for _, k := range keys {
			if c.Full || rapid.Bool().Draw(t, "put") {
				c.Put = append(c.Put, kv(k, fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "value"))))
			} else {
				c.Deleted = append(c.Deleted, k)
			}
		}
		return c
	})
	rapid.Check(t, func(t *rapid.T) {
		changes := rapid.SliceOf(change).Draw(t, "changes")
		var p pending
		whole, merged := make(map[string]KV), make(map[string]KV)
		take := func(revision int) {
			c := p.take()
			if c.Revision != int64(revision) {
				t.Fatalf("revision: got %d, want %d", c.Revision, revision)
			}
			both := slices.Clone(c.Deleted)
			for _, kv := range c.Put {
				both = append(both, kv.Key)
			}
			if slices.Sort(both); len(slices.Compact(slices.Clone(both))) != len(both) {
				t.Fatalf("a key comes twice: %+v", c)
			}
			if c.Full && len(c.Deleted) > 0 {
				t.Fatalf("Full with Deleted: %+v", c)
			}
			applyTo(merged, c)
			if diff := cmp.Diff(whole, merged, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("at revision %d: -one by one +merged\n%s", revision, diff)
			}
		}
		for i, c := range changes {
			c.Revision = int64(i + 1)
			applyTo(whole, c)
			p.merge(c)
			if rapid.Bool().Draw(t, "take") {
				take(i + 1)
			}
		}
		if p.news {
			take(len(changes))
		}
	})
}

func applyTo(keys map[string]KV, c Change) {
	if c.Full {
		clear(keys)
	}
	Apply(keys, c)
}
