package etcd_test

import (
	"strings"
	"testing"
	"time"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// An old etcd is a store as any.
func TestContractOfAnOldEtcd(t *testing.T) {
	s := etcdtest.Start(t, etcdtest.Old())
	s.Client() // its goroutines are not the store's
	backendtest.Run(t, backendtest.Harness{
		Open:      func(t testing.TB) backends.Store { return openOnly(t, "etcd://"+s.Addr()) },
		Put:       func(t testing.TB, key, value string) { put(t, s, key, value) },
		Delete:    func(t testing.TB, key string) { del(t, s, key) },
		Stop:      func(testing.TB) { s.Kill() },
		Start:     func(testing.TB) { s.Restart() },
		Revisions: true,
	})
}

// What an etcd 3.4 or 3.5 tells of progress is neither taken for silence nor for more
// than it is: a quiet watch lives, one whose address is silent is found, nothing
// is lost in a storm, and a lease is kept.
func TestOldEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Old())
	r := etcdtest.NewRelay(t, s.Addr())
	version, err := s.Client().Status(within(t), s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if v := version.Version; !strings.HasPrefix(v, "3.4.") && !strings.HasPrefix(v, "3.5.") {
		proctest.Missing(t, "an etcd 3.4 or 3.5, not "+v)
	}
	store := open(t, "etcd://"+r.Addr(), nil)
	w := follow(t, store, nil, "/services", "/services.meta", "/muster")
	w.has(five(t, s)...)
	w.alive(6) // 3 s, in which nothing happens
	w.counts(0, 1)

	w.mark()
	r.Blackhole()
	w.broken()
	w.said("no answer for 1.5s")
	put(t, s, "/services/web/new", "10.0.0.9:80")
	r.Heal()
	w.until("the new one is there", func() bool { return w.state["/services/web/new"].Value != "" })
	w.alive(2)
	w.want("1 errors, 1 full, put /services/web/new")

	w.mark()
	for i := range 2000 {
		put(t, s, "/services/web/new", "10.0.0.9:"+string(rune('0'+i%10)))
		put(t, s, "/muster/defaults", string(rune('0'+i%10)))
	}
	w.until("the last is there", func() bool {
		return w.state["/services/web/new"].Value == "10.0.0.9:9" && w.state["/muster/defaults"].Value == "9"
	})
	w.alive(2)
	w.counts(0, 0)

	l := store.Lease(2 * time.Second)
	hold(t, l)
	write(t, l, "/k", "v")
	time.Sleep(4 * time.Second)
	if got := get(t, s, "/k"); got.value != "v" || got.lease != l.ID() {
		t.Errorf("after twice its TTL: %+v, want v under lease %x", got, l.ID())
	}
}
