package faults

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// A value that can't be read hurts nobody (W17): the last good one stays. Who
// believes a plain Watch sends requests to it.
func TestMalformedValueUnderLoad(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addrA := app(t, "A")
	_, addrB := app(t, "B")
	put(t, s, "/services/web/a", addrA)
	put(t, s, "/services/web/b", addrB)
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "B")
	plain := watchPlainly(t, s, "/services/")
	l := startLoad(t, "http://"+b.addr+"/")
	for _, value := range []string{"{bad", "", "10.0.0.1", "::::", strings.Repeat("x", 1<<20)} {
		put(t, s, "/services/web/a", value)
		put(t, s, "/services.meta/web/b", value)
		l.waitFor(t, 10, "A", "B")
		proctest.Eventually(t, "the plain Watch has it", func() bool { return plain.value("/services/web/a") == value })
		if conn, err := net.Dial("tcp", plain.value("/services/web/a")); err == nil {
			conn.Close()
			t.Errorf("the fault does not bite: there is an app at %q", value)
		}
	}
	if got := b.metric("muster_store_bad_entries"); got != "2" {
		t.Errorf("muster_store_bad_entries is %q, want 2", got)
	}
	l.faultless(t)
}

// Ten thousand puts as fast as etcd takes them (W18): the balancer takes them in
// a few bites and has the newest in the end. A plain Watch is told of each.
func TestStormOfPuts(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	put(t, s, "/services/web/stable", addr)
	const keys, puts = 500, 10_000
	b := balance(t, etcdURL(s.Addr()), "-default", "web")
	b.serves(t, "A")
	seen := record(t, s, "/services/storm/")
	l := startLoad(t, "http://"+b.addr+"/")
	var wg sync.WaitGroup
	for worker := range 20 {
		wg.Go(func() {
			for i := range puts / 20 {
				k := fmt.Sprintf("/services/storm/%d", worker+20*(i%(keys/20)))
				if _, err := s.Client().Put(t.Context(), k, fmt.Sprintf("10.0.%d.%d:%d", worker, i/250, 1+i%250)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	want := make(map[string]string)
	resp, err := s.Client().Get(t.Context(), "/services/storm/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		want[strings.TrimPrefix(string(kv.Key), "/services/storm/")] = string(kv.Value)
	}
	proctest.Eventually(t, "the balancer has what etcd has", func() bool {
		got := b.endpoints(t, "storm")
		if len(got) != len(want) {
			return false
		}
		for id, addr := range want {
			if got[id] != addr {
				return false
			}
		}
		return true
	})
	l.waitFor(t, 20, "A")
	l.faultless(t)
	proctest.Eventually(t, "the plain Watch is told of each", func() bool {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		return len(seen.events) == puts
	})
	t.Logf("%d puts were %s changes", puts, b.metric("muster_store_changes_total"))
}

// A counted is an app in this process that counts its connections.
type counted struct {
	addr  string
	conns atomic.Int64
}

func countedApp(t *testing.T, name string) *counted {
	t.Helper()
	c := new(counted)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name, "answers") }))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	c.addr = srv.Listener.Addr().String()
	return c
}

// followNaively sends a request to addr after each of the first n events of key,
// over a connection of its own: as a balancer does that makes all pools of a
// service anew when one of its endpoints changes.
func followNaively(t *testing.T, s *etcdtest.Server, key, addr string, n int) {
	t.Helper()
	for r := range s.Client().Watch(t.Context(), key, clientv3.WithRev(1)) {
		for range r.Events {
			transport := new(http.Transport)
			client := http.Client{Transport: transport, Timeout: proctest.Patience}
			resp, err := client.Get("http://" + addr)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			transport.CloseIdleConnections()
			if n--; n == 0 {
				return
			}
		}
	}
}

// An endpoint goes and comes again and again (W19), as when its app is restarted:
// no request fails, and the other one keeps its connections, where who makes the
// service anew from each event makes them anew, too.
func TestDeleteAndPutPairs(t *testing.T) {
	t.Parallel()
	const pairs = 100
	s := etcdtest.Start(t)
	_, addrA := app(t, "A")
	stays, naive := countedApp(t, "B"), countedApp(t, "N")
	put(t, s, "/services/web/a", addrA)
	put(t, s, "/services/web/b", stays.addr)
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	b.serves(t, "B")
	plain := watchPlainly(t, s, "/services/web/")
	l := startLoad(t, "http://"+b.addr+"/")
	l.waitFor(t, 10, "A", "B")
	before := stays.conns.Load()
	for range pairs {
		del(t, s, "/services/web/a")
		put(t, s, "/services/web/a", addrA)
	}
	l.waitFor(t, 50, "A", "B")
	l.faultless(t)
	made := stays.conns.Load() - before
	if got := b.endpoints(t, "web"); len(got) != 2 {
		t.Errorf("endpoints: %v, want a and b", got)
	}
	proctest.Eventually(t, "the plain Watch has lost it every time", func() bool { return plain.wasDeleted("/services/web/a") == pairs })
	followNaively(t, s, "/services/web/a", naive.addr, 2*pairs)
	if made >= pairs {
		t.Errorf("the balancer made %d connections to the one that stays in %d pairs, want it to keep what it has", made, pairs)
	}
	if n := naive.conns.Load(); n < 2*pairs {
		t.Errorf("the fault does not bite: who makes the service anew made %d connections in %d events", n, 2*pairs)
	}
	t.Logf("%d pairs: the balancer made %d connections to the one that stays, who makes the service anew %d", pairs, made, naive.conns.Load())
}
