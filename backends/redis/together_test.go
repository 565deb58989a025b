package redis_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/redis"
	"muster/internal/redistest"
)

// A togetherStore watches together, which is held to the same contract.
type togetherStore struct{ *redis.Store }

func (s togetherStore) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.WatchTogether(ctx, prefixes)
}

func TestContractTogether(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	backendtest.Run(t, backendtest.Harness{
		Open:   func(t testing.TB) backends.Store { return togetherStore{open(t, "redis://"+s.Addr(), nil)} },
		Put:    func(t testing.TB, key, value string) { s.Do("SET", key, value) },
		Delete: func(t testing.TB, key string) { s.Do("DEL", key) },
		Stop:   func(testing.TB) { s.Kill() },
		Start:  func(testing.TB) { s.Restart() },
	})
}

func TestRead(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Do("SET", "/a/1", "x")
	s.Do("SET", "/b", "y")
	s.Do("HSET", "/c", "f", "z")
	s.Do("SET", "/d", "not asked for")
	store := open(t, "redis://127.0.0.1:1,"+s.Addr(), nil)
	c, err := store.Read(t.Context(), []string{"/c", "/a", "/b"})
	if got := fmt.Sprint(c.Full, c.Put, c.Deleted); err != nil || got != "true [{/a/1 x 0 0 0} {/b y 0 0 0} {/c/f z 0 0 0}] []" {
		t.Errorf("got %s, %v, want a, b and c", got, err)
	}
	s.Kill()
	want := "redis 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused; redis " + s.Addr() + ": dial tcp " + s.Addr() + ": connect: connection refused"
	if _, err := store.Read(t.Context(), []string{"/a"}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Together nothing is left out of what a user may not read, so that others of
// them may ask alone.
func TestDeniedTogether(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Do("ACL", "SETUSER", "some", "on", ">pass", "resetkeys", "~/a/*", "~/b", "allchannels", "+@all")
	s.Do("SET", "/a/1", "x")
	s.Do("SET", "/b", "y")
	s.Do("SET", "/secret/1", "z")
	store := open(t, "redis://some:pass@"+s.Addr(), nil)
	backendtest.NewReader(t, store, "/a").Has("/a/1=x")
	for _, prefixes := range [][]string{{"/a", "/b"}, {"/b", "/secret"}} {
		if c, err := store.Read(t.Context(), prefixes); !errors.Is(err, backends.ErrDenied) {
			t.Errorf("Read(%q): got %+v, %v, want ErrDenied", prefixes, c, err)
		}
		for c, err := range store.WatchTogether(t.Context(), prefixes) {
			if !errors.Is(err, backends.ErrDenied) {
				t.Errorf("WatchTogether(%q): got %+v, %v, want ErrDenied", prefixes, c, err)
			}
			break
		}
	}
}
