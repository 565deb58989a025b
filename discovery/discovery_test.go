package discovery_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"muster/backends/backendtest"
	"muster/backends/etcd"
	"muster/catalog"
	"muster/discovery"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start follows the etcd at addr until the test ends.
func start(t *testing.T, addr string) (*discovery.Watcher, *backendtest.Logbook) {
	t.Helper()
	log := new(backendtest.Logbook)
	logger := slog.New(slog.NewTextHandler(log, nil))
	store, err := etcd.Open("etcd://"+addr, logger)
	if err != nil {
		t.Fatal(err)
	}
	w := discovery.New(discovery.Config{Store: store, Log: logger})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); store.Close() })
	return w, log
}

// next returns the first snapshot after known in which ok holds.
func next(t *testing.T, w *discovery.Watcher, known *catalog.Snapshot, ok func(*catalog.Snapshot) bool) *catalog.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	for {
		s, err := w.Next(ctx, known)
		if err != nil {
			t.Fatalf("no such snapshot came: %v; status %+v", err, w.Status())
		}
		if ok(s) {
			return s
		}
		known = s
	}
}

func has(service string, endpoints int) func(*catalog.Snapshot) bool {
	return func(s *catalog.Snapshot) bool {
		svc := s.Service(service)
		return svc != nil && len(svc.Endpoints) == endpoints
	}
}

func put(t *testing.T, server *etcdtest.Server, key, value string) {
	t.Helper()
	if _, err := server.Client().Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	server := etcdtest.Start(t)
	put(t, server, "/services/web/a", "h:1")
	put(t, server, "/services/api/x", "h:9")
	w, log := start(t, server.Addr())

	s := next(t, w, nil, has("web", 1))
	put(t, server, "/services/web/b", "h:2")
	s2 := next(t, w, s, has("web", 2))
	if s2.Service("api") != s.Service("api") {
		t.Error("a change of web made another api, want the same pointer")
	}
	put(t, server, "/services/web/b", "{broken")
	s3 := next(t, w, s2, func(s *catalog.Snapshot) bool { return len(w.Status().Bad) == 1 })
	if b := w.Status().Bad[0]; b.Key != "/services/web/b" || !b.Kept || !has("web", 2)(s3) {
		t.Errorf("bad entry: %+v, want /services/web/b, kept", b)
	}
	put(t, server, "/services/web/b/deeper", "h:2")
	proctest.Eventually(t, "a second bad key", func() bool { return len(w.Status().Bad) == 2 })
	if b := w.Status().Bad[1]; b.Key != "/services/web/b/deeper" || b.Kept || !strings.Contains(b.Err, "want /services/NAME/ID") {
		t.Errorf("bad key: %+v, want /services/web/b/deeper, and what was wanted", b)
	}
	for _, key := range []string{"/services/web/b", "/services/web/b/deeper"} {
		if _, err := server.Client().Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	next(t, w, s3, has("web", 1))
	proctest.Eventually(t, "no bad key", func() bool { return len(w.Status().Bad) == 0 })
	for _, key := range []string{"/services/web/b", "/services/web/b/deeper"} {
		for _, text := range []string{"entry can't be read", "entry is good again, or gone"} {
			if n := log.Count(`msg="`+text+`" key=`+key+" ") + log.Count(`msg="`+text+`" key=`+key+"\n"); n != 1 {
				t.Errorf("%q of %s was logged %d times, want once", text, key, n)
			}
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w)
	if families, err := registry.Gather(); err != nil || len(families) != 13 {
		t.Errorf("%d metrics, %v, want 13", len(families), err)
	}
}

// While the store says nothing new, it still proves that what is known is true.
func TestQuietStoreIsFresh(t *testing.T) {
	server := etcdtest.Start(t)
	put(t, server, "/services/web/a", "h:1")
	w, _ := start(t, server.Addr())
	known := next(t, w, nil, has("web", 1))
	proof := w.Status().Proof
	for i := range 3 {
		proctest.Eventually(t, "a newer proof", func() bool { return w.Status().Proof.After(proof) })
		proof = w.Status().Proof
		if st := w.Status(); st.Stale || w.Snapshot() != known {
			t.Fatalf("proof %d: stale=%v, another snapshot=%v, want neither", i, st.Stale, w.Snapshot() != known)
		}
	}
}

// A store that goes away is said once; what is known stays, is called stale,
// and is the same when the store is back.
func TestStoreAwayAndBack(t *testing.T) {
	server := etcdtest.Start(t)
	put(t, server, "/services/web/a", "h:1")
	w, log := start(t, server.Addr())
	known := next(t, w, nil, has("web", 1))

	server.Kill()
	proctest.Eventually(t, "stale", func() bool { return w.Status().Stale })
	st := w.Status()
	if st.Err == "" || st.Errors != 1 || !st.Ready || w.Snapshot() != known {
		t.Errorf("while etcd is away: %+v, want one error, ready, and the same snapshot", st)
	}
	server.Restart()
	proctest.Eventually(t, "fresh", func() bool { return !w.Status().Stale })
	put(t, server, "/services/web/b", "h:2")
	s := next(t, w, known, has("web", 2))
	if s.Service("web").Endpoints[0] != known.Service("web").Endpoints[0] {
		t.Error("the endpoint that stayed is another pointer, want the same")
	}
	if away, back := log.Count("store is away"), log.Count("store is back"); away != 1 || back != 1 {
		t.Errorf("logged away %d times and back %d times, want 1 and 1", away, back)
	}
}

// Without a store at the start there is no snapshot, and one as soon as it comes.
func TestStoreComesLater(t *testing.T) {
	server := etcdtest.Start(t)
	put(t, server, "/services/web/a", "h:1")
	server.Kill()
	w, log := start(t, server.Addr())
	proctest.Eventually(t, "an error", func() bool { return w.Status().Err != "" })
	if n := log.Count("nothing is known yet"); n != 1 {
		t.Errorf("logged %d times that nothing is known, want once", n)
	}
	if st := w.Status(); st.Ready || !st.Stale {
		t.Errorf("before the store ever answered: %+v, want stale and not ready", st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if s, err := w.Next(ctx, nil); err == nil {
		t.Errorf("Next before the first snapshot: %v, want it to wait", s)
	}
	server.Restart()
	next(t, w, nil, has("web", 1))
	if away := log.Count("store is away"); away != 1 {
		t.Errorf("logged away %d times, want 1", away)
	}
}
