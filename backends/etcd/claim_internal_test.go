package etcd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/internal/etcdtest"
)

// What the process before announced and this one does not, because it is
// configured otherwise, does not live on by the lease that was taken up.
func TestUnclaimedKeysAreTakenBack(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := etcdtest.Start(t)
	grant, err := s.Client().Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"/old", "/same"} {
		if _, err := s.Client().Put(ctx, key, "v", clientv3.WithLease(grant.ID)); err != nil {
			t.Fatal(err)
		}
	}
	store, err := Open("etcd://"+s.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l := store.Lease(time.Minute)
	l.File = filepath.Join(t.TempDir(), "lease")
	l.claim = 500 * time.Millisecond
	text := fmt.Sprintf(`{"lease":"%x","ttl_s":60,"keys":{"/old":"v","/same":"v"}}`, grant.ID)
	if err := os.WriteFile(l.File, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = l.Run(running) })
	if err := l.Write(ctx, []backends.KV{{Key: "/same", Value: "v"}}, nil); err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := s.Client().Get(ctx, "/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) == 1 {
			if kv := resp.Kvs[0]; string(kv.Key) != "/same" || kv.Version != 1 || kv.Lease != int64(grant.ID) {
				t.Errorf("left: %v, want /same as it was", kv)
			}
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if v, ok := l.Former("/old"); ok {
		t.Errorf("Former(/old): %q, want nothing: it was taken back", v)
	}
}
