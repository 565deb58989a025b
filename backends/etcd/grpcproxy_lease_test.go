package etcd_test

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends/backendtest"
	"muster/internal/etcdtest"
)

// Behind etcd's grpc-proxy, which renews towards etcd by a clock of its own, a
// lease lives as long as it is held.
func TestLeaseBehindGRPCProxy(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	p := etcdtest.StartGRPCProxy(t, []*etcdtest.Server{s})
	var log backendtest.Logbook
	l := open(t, "etcd://"+p.Addr(), log.Logger()).Lease(5 * time.Second)
	hold(t, l)
	write(t, l, "/services/web/1", "h:1")
	first := get(t, s, "/services/web/1")
	if first.lease == 0 {
		t.Fatal("the key hangs on no lease")
	}
	time.Sleep(16 * time.Second) // three times the lease
	if now := get(t, s, "/services/web/1"); now != first || now.lease != l.ID() {
		t.Errorf("after three times its lease the key is %+v, want %+v", now, first)
	}
	if n := log.Count("lease is gone"); n > 0 {
		t.Errorf("the lease was lost %d times", n)
	}
}

// With a login no lease lives behind grpc-proxy, for nobody: etcd asks who
// renews, and the proxy does not hand that on. docs/etcd.md says so; when this
// test fails, etcd has mended it.
func TestNobodyRenewsWithALoginBehindGRPCProxy(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Auth("muster", "secret", "/services/"))
	p := etcdtest.StartGRPCProxy(t, []*etcdtest.Server{s})
	for addr, lives := range map[string]bool{s.Addr(): true, p.Addr(): false} {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Username: "muster", Password: "secret", Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		granted, err := c.Grant(within(t), 2)
		if err != nil {
			t.Fatal(err)
		}
		answers, err := c.KeepAlive(within(t), granted.ID)
		if err != nil {
			t.Fatal(err)
		}
		renewals := 0
		for renewals < 6 { // more than the lease is long
			if _, ok := <-answers; !ok {
				break
			}
			renewals++
		}
		if (renewals == 6) != lives {
			t.Errorf("through %s: %d renewals; it lives: want %v", addr, renewals, lives)
		}
	}
}
