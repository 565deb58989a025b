package backends

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A yielded is one thing that Poll said, and when.
type yielded struct {
	After  time.Duration
	Change Change
	Err    string
}

// poll runs Poll on reads, one after the other, and stops at the end of the list.
func poll(t *testing.T, interval time.Duration, wake <-chan struct{}, reads ...func() ([]KV, int64, error)) []yielded {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all []yielded
	begin := time.Now()
	for c, err := range Poll(ctx, interval, wake, func(context.Context) ([]KV, int64, error) {
		if len(reads) == 0 {
			cancel()
			return nil, 0, errors.New("the end")
		}
		read := reads[0]
		reads = reads[1:]
		return read()
	}) {
		y := yielded{After: time.Since(begin), Change: c}
		if err != nil {
			y.Err = err.Error()
		}
		all = append(all, y)
	}
	return all
}

func is(revision int64, kvs ...KV) func() ([]KV, int64, error) {
	return func() ([]KV, int64, error) { return kvs, revision, nil }
}

func fails(text string) func() ([]KV, int64, error) {
	return func() ([]KV, int64, error) { return nil, 0, errors.New(text) }
}

func kv(key, value string) KV { return KV{Key: key, Value: value} }

func TestPollYieldsTheDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := poll(t, 0, nil,
			is(0, kv("b", "1"), kv("a", "1"), kv("gone", "1")),
			is(0, kv("a", "1"), kv("b", "1"), kv("gone", "1")),
			is(0, kv("b", "2"), kv("a", "1"), kv("c", "1"), kv("c", "twice")),
			is(0, kv("b", "2"), kv("a", "1"), kv("c", "1"), kv("c", "twice")),
			is(0),
		)
		want := []yielded{
			{0, Change{Revision: 1, Full: true, Put: []KV{kv("a", "1"), kv("b", "1"), kv("gone", "1")}}, ""},
			{1 * time.Second, Change{Revision: 1}, ""},
			{2 * time.Second, Change{Revision: 2, Put: []KV{kv("b", "2"), kv("c", "1")}, Deleted: []string{"gone"}}, ""},
			{3 * time.Second, Change{Revision: 2}, ""},
			{4 * time.Second, Change{Revision: 3, Deleted: []string{"a", "b", "c"}}, ""},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func TestPollSaysAnErrorOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := poll(t, 100*time.Millisecond, nil,
			fails("away"), fails("away"), fails("odd"),
			is(7, kv("a", "1")),
			fails("odd"), fails("odd"),
			is(9, kv("a", "1")),
		)
		want := []yielded{
			{0, Change{}, "away"},
			{200 * time.Millisecond, Change{}, "odd"},
			{300 * time.Millisecond, Change{Revision: 7, Full: true, Put: []KV{kv("a", "1")}}, ""},
			{400 * time.Millisecond, Change{}, "odd"},
			{600 * time.Millisecond, Change{Revision: 9}, ""},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func TestPollOfNothingIsFullToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := poll(t, 0, nil, is(0), is(0))
		want := []yielded{{0, Change{Revision: 1, Full: true}, ""}, {time.Second, Change{Revision: 1}, ""}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// Between two reads what the last one said counts, unless it was an error.
func TestPollSaysEachSecondThatItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := poll(t, 2500*time.Millisecond, nil, is(7, kv("a", "1")), fails("away"), fails("away"), is(8))
		want := []yielded{
			{0, Change{Revision: 7, Full: true, Put: []KV{kv("a", "1")}}, ""},
			{1000 * time.Millisecond, Change{Revision: 7}, ""},
			{2000 * time.Millisecond, Change{Revision: 7}, ""},
			{2500 * time.Millisecond, Change{}, "away"},
			{7500 * time.Millisecond, Change{Revision: 8, Deleted: []string{"a"}}, ""},
			{8500 * time.Millisecond, Change{Revision: 8}, ""},
			{9500 * time.Millisecond, Change{Revision: 8}, ""},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func TestPollWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := make(chan struct{}, 1)
		go func() {
			time.Sleep(300 * time.Millisecond)
			wake <- struct{}{}
			time.Sleep(100 * time.Millisecond)
			close(wake)
		}()
		var after []time.Duration
		for _, y := range poll(t, 0, wake, is(0), is(0), is(0), is(0)) {
			after = append(after, y.After)
		}
		// At the start, woken, woken by the close, and from then on by time alone.
		want := []time.Duration{0, 300 * time.Millisecond, 400 * time.Millisecond, 1400 * time.Millisecond}
		if diff := cmp.Diff(want, after); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// The time a read and the loop's body take is not added to the interval.
func TestPollKeepsItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func() ([]KV, int64, error) {
			time.Sleep(400 * time.Millisecond)
			return nil, 0, nil
		}
		var after []time.Duration
		for _, y := range poll(t, 0, nil, slow, slow, slow) {
			after = append(after, y.After)
		}
		want := []time.Duration{400 * time.Millisecond, 1400 * time.Millisecond, 2400 * time.Millisecond}
		if diff := cmp.Diff(want, after); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func TestPollEndsWhenTheLoopLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		for range Poll(t.Context(), 0, nil, func(context.Context) ([]KV, int64, error) {
			reads++
			return nil, 0, nil
		}) {
			if reads == 2 {
				break
			}
		}
		if reads != 2 {
			t.Errorf("got %d reads, want 2", reads)
		}
	})
}
