package etcd_test

import (
	"context"
	"flag"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"muster/backends/etcd"
	"muster/internal/etcdtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // they wait far more than they work
	goleak.VerifyTestMain(m)
}

// patience bounds what must happen; on a busy machine it takes a while.
const patience = 60 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open opens a store that is closed with the test.
func open(t testing.TB, url string, log *slog.Logger) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(url, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func put(t testing.TB, s *etcdtest.Server, key, value string, opts ...clientv3.OpOption) int64 {
	t.Helper()
	resp, err := s.Client().Put(within(t), key, value, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func del(t testing.TB, s *etcdtest.Server, key string) int64 {
	t.Helper()
	resp, err := s.Client().Delete(within(t), key)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// A held is what a key is, by a plain client.
type held struct {
	value string
	lease int64
}

func get(t testing.TB, s *etcdtest.Server, key string) held {
	t.Helper()
	resp, err := s.Client().Get(within(t), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return held{}
	}
	return held{string(resp.Kvs[0].Value), resp.Kvs[0].Lease}
}

// eventually waits until f holds: for what only etcd knows, and can't tell of.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	ctx := within(t)
	for !f() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

// openOnly opens a store that the caller closes.
func openOnly(t testing.TB, url string) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// quiet is for clients of etcd's own.
var quiet = zap.NewNop()
