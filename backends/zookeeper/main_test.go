package zookeeper_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/backends"
	"muster/backends/zookeeper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen; on a busy machine it takes a while.
const patience = 60 * time.Second

func open(t testing.TB, url string, log *slog.Logger) *zookeeper.Store {
	t.Helper()
	s, err := zookeeper.Open(url, log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A reader follows a store and knows what it said.
type reader struct {
	t      testing.TB
	ctx    context.Context
	feed   *backends.Feed
	keys   map[string]string
	fulls  int
	errors []string
}

func follow(t testing.TB, s backends.Store, prefixes ...string) *reader {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	f := backends.NewFeed(ctx, s, prefixes...)
	t.Cleanup(func() { f.Close(); cancel() })
	return &reader{t: t, ctx: ctx, feed: f}
}

// until takes news until ok.
func (r *reader) until(what string, ok func() bool) {
	r.t.Helper()
	for !ok() {
		c, err := r.feed.Next(r.ctx)
		if r.ctx.Err() != nil {
			r.t.Fatalf("never came: %s; keys are %q, errors %q", what, r.text(), r.errors)
		}
		if err != nil {
			r.errors = append(r.errors, err.Error())
			continue
		}
		if c.Full {
			r.fulls++
			r.keys = make(map[string]string)
		}
		for _, kv := range c.Put {
			r.keys[kv.Key] = kv.Value
		}
		for _, key := range c.Deleted {
			delete(r.keys, key)
		}
	}
}

// has takes news until the keys are as wanted, written "key=value key=value".
func (r *reader) has(want string) {
	r.t.Helper()
	r.until(want, func() bool { return r.keys != nil && r.text() == want })
}

// fails takes news until one more error has come, and checks that it says want.
func (r *reader) fails(want string) {
	r.t.Helper()
	n := len(r.errors)
	r.until("an error", func() bool { return len(r.errors) > n })
	if got := r.errors[n]; !strings.Contains(got, want) {
		r.t.Errorf("got error %q, want one with %q", got, want)
	}
}

// alive takes n more Changes.
func (r *reader) alive(n int) {
	r.t.Helper()
	for range n {
		came := false
		r.until("a Change", func() bool { defer func() { came = true }(); return came })
	}
}

func (r *reader) text() string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(r.keys)) {
		list = append(list, key+"="+r.keys[key])
	}
	return strings.Join(list, " ")
}

// counts checks how many errors and Full Changes came.
func (r *reader) counts(errors, fulls int) {
	r.t.Helper()
	if got, want := fmt.Sprint(len(r.errors), r.fulls), fmt.Sprint(errors, fulls); got != want {
		r.t.Errorf("got %s errors and Full Changes, want %s: %q", got, want, r.errors)
	}
}

// A logbook is a log that can be asked.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
