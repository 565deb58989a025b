package zookeeper_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/go-zookeeper/zk"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/zookeeper"
	"muster/internal/zktest"
)

// A togetherStore watches together, which is held to the same contract.
type togetherStore struct{ *zookeeper.Store }

func (s togetherStore) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.WatchTogether(ctx, prefixes)
}

func TestContractTogether(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/beside", "x") // also makes the client, whose goroutines are not the store's
	backendtest.Run(t, backendtest.Harness{
		Open:      func(t testing.TB) backends.Store { return togetherStore{open(t, "zk://"+s.Addr(), nil)} },
		Put:       func(t testing.TB, key, value string) { s.Put(key, value) },
		Delete:    func(t testing.TB, key string) { s.Delete(key) },
		Stop:      func(testing.TB) { s.Kill() },
		Start:     func(testing.TB) { s.Restart() },
		Revisions: true,
	})
}

func TestRead(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/a/1", "x")
	s.Put("/b", "y")
	s.Put("/c", "not asked for")
	store := open(t, "zk://127.0.0.1:1,"+s.Addr(), nil)
	c, err := store.Read(t.Context(), []string{"/b", "/a"})
	if err != nil || !c.Full || c.Revision == 0 || len(c.Put) != 2 || c.Put[0].Value+c.Put[1].Value != "xy" {
		t.Errorf("got %+v, %v, want a and b", c, err)
	}
	if _, err := s.Client().Create("/a/secret", nil, 0, zk.DigestACL(zk.PermAll, "u", "p")); err != nil {
		t.Fatal(err)
	}
	backendtest.NewReader(t, store, "/a").Has("/a/1=x")
	// Together nothing is left out, so that others may ask alone.
	if c, err := store.Read(t.Context(), []string{"/a", "/b"}); !errors.Is(err, backends.ErrDenied) {
		t.Errorf("got %+v, %v, want ErrDenied", c, err)
	}
	for c, err := range store.WatchTogether(t.Context(), []string{"/a", "/b"}) {
		if !errors.Is(err, backends.ErrDenied) {
			t.Errorf("got %+v, %v, want ErrDenied", c, err)
		}
		break
	}
	s.Kill()
	want := "zookeeper 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused; zookeeper " + s.Addr() + ": dial tcp " + s.Addr() + ": connect: connection refused"
	if _, err := store.Read(t.Context(), []string{"/a"}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
