package backendtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"muster/backends"
)

// A Reader follows a store through a [backends.Feed] and knows what it said. It
// is for the tests of one store, of what the suite can't ask of all.
type Reader struct {
	Keys   map[string]string // nil before the first Full Change
	Fulls  int
	Errors []string

	t    testing.TB
	ctx  context.Context
	feed *backends.Feed
}

// NewReader follows prefixes until the test ends.
func NewReader(t testing.TB, s backends.Store, prefixes ...string) *Reader {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	f := backends.NewFeed(ctx, s, prefixes...)
	t.Cleanup(func() { f.Close(); cancel() })
	return &Reader{t: t, ctx: ctx, feed: f}
}

// Next takes the next news, a Change or an error.
func (r *Reader) Next() (backends.Change, error) {
	r.t.Helper()
	return r.next("more")
}

func (r *Reader) next(what string) (backends.Change, error) {
	r.t.Helper()
	c, err := r.feed.Next(r.ctx)
	if r.ctx.Err() != nil {
		r.t.Fatalf("never came: %s; keys are %q, errors %q", what, Text(r.Keys), r.Errors)
	}
	if err != nil {
		r.Errors = append(r.Errors, err.Error())
		return c, err
	}
	if c.Full {
		r.Fulls++
		r.Keys = make(map[string]string)
	}
	for _, kv := range c.Put {
		r.Keys[kv.Key] = kv.Value
	}
	for _, key := range c.Deleted {
		delete(r.Keys, key)
	}
	return c, nil
}

// Until takes news until ok.
func (r *Reader) Until(what string, ok func() bool) {
	r.t.Helper()
	for !ok() {
		_, _ = r.next(what) // it has counted the error
	}
}

// Has takes news until the keys are as wanted, written "key=value key=value".
func (r *Reader) Has(want string) {
	r.t.Helper()
	r.Until(want, func() bool { return r.Keys != nil && Text(r.Keys) == want })
}

// Fails takes news until one more error has come, and checks that it says want.
func (r *Reader) Fails(want string) {
	r.t.Helper()
	n := len(r.Errors)
	r.Until("an error", func() bool { return len(r.Errors) > n })
	if got := r.Errors[n]; !strings.Contains(got, want) {
		r.t.Errorf("got error %q, want one with %q", got, want)
	}
}

// Alive takes n more Changes.
func (r *Reader) Alive(n int) {
	r.t.Helper()
	for range n {
		came := false
		r.Until("a Change", func() bool { defer func() { came = true }(); return came })
	}
}

// Counts checks how many errors and Full Changes came.
func (r *Reader) Counts(errors, fulls int) {
	r.t.Helper()
	if got, want := fmt.Sprint(len(r.Errors), r.Fulls), fmt.Sprint(errors, fulls); got != want {
		r.t.Errorf("got %s errors and Full Changes, want %s: %q", got, want, r.Errors)
	}
}

// Text is keys with their values, as Has wants them.
func Text(keys map[string]string) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		list = append(list, key+"="+keys[key])
	}
	return strings.Join(list, " ")
}
