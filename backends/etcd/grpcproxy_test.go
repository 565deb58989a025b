package etcd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/internal/etcdtest"
)

// etcd's grpc-proxy numbers watches by itself and answers no progress request.
// A watch behind it is told of everything, at once and once, and a quiet one does
// not break.
func TestWatchBehindGRPCProxy(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	p := etcdtest.StartGRPCProxy(t, []*etcdtest.Server{s})
	values := five(t, s)
	changes := 0
	w := follow(t, open(t, "etcd://"+p.Addr(), nil), func(c backends.Change) {
		if len(c.Put)+len(c.Deleted) > 0 && !c.Full {
			changes++
		}
	}, "/services", "/services.meta")
	w.has(values...)
	w.alive(8) // four seconds without an event
	w.counts(0, 1)
	for i := range 20 {
		key := fmt.Sprintf("/services/late/%d", i)
		_, err := s.Client().Txn(within(t)).Then(clientv3.OpPut(key, "1"), clientv3.OpPut("/services.meta/late/"+fmt.Sprint(i), "{}")).Commit()
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, key+"=1", fmt.Sprintf("/services.meta/late/%d={}", i))
		w.has(values...)
	}
	del(t, s, "/services/web/0")
	w.has(slices.DeleteFunc(values, func(v string) bool { return strings.HasPrefix(v, "/services/web/0=") })...)
	w.alive(4)
	w.counts(0, 1)
	w.stop()
	if changes != 21 {
		t.Errorf("%d Changes with news, want 21: none twice, none torn", changes)
	}
}

// Several ranges, which can't be told to be as far as each other, still come
// whole.
func TestSeveralRangesBehindGRPCProxy(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	p := etcdtest.StartGRPCProxy(t, []*etcdtest.Server{s})
	w := follow(t, open(t, "etcd://"+p.Addr(), nil), nil, "/services", "/services.meta", "/muster")
	w.alive(2)
	put(t, s, "/muster/protect", "off")
	put(t, s, "/muster", "x")
	put(t, s, "/services/web/1", "h:1")
	w.has("/muster/protect=off", "/muster=x", "/services/web/1=h:1")
	del(t, s, "/muster")
	w.has("/muster/protect=off", "/services/web/1=h:1")
	w.alive(4)
	w.counts(0, 1)
}

// A proxy that is killed, or whose etcd is, is one break; what came meanwhile is
// there after it.
func TestGRPCProxyLosesItsEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	p := etcdtest.StartGRPCProxy(t, []*etcdtest.Server{s})
	values := five(t, s)
	w := follow(t, open(t, "etcd://"+p.Addr(), nil), nil, "/services")
	w.has(values...)
	w.mark()
	s.Kill()
	w.broken()
	s.Restart()
	put(t, s, "/services/web/late", "1")
	w.has(append(values, "/services/web/late=1")...)
	w.alive(4)
}

// Each client's login is handed on to etcd: what it may not read it does not get.
func TestLoginBehindGRPCProxy(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Auth("muster", "secret", "/services/", "/services.meta/"))
	p := etcdtest.StartGRPCProxy(t, []*etcdtest.Server{s})
	put(t, s, "/services/web/1", "h:1")
	store := open(t, "etcd://muster:secret@"+p.Addr(), nil)
	w := follow(t, store, nil, "/services", "/services.meta")
	w.has("/services/web/1=h:1")
	put(t, s, "/services/web/2", "h:1")
	w.has("/services/web/1=h:1", "/services/web/2=h:1")
	w.alive(4)
	w.counts(0, 1)

	denied := follow(t, store, nil, "/other")
	denied.broken()
	denied.said("permission denied")
}
