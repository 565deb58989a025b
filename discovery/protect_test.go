package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends/backendtest"
	"muster/backends/etcd"
	"muster/catalog"
	"muster/discovery"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// A world says which endpoints answer their check.
type world struct {
	mu    sync.Mutex
	dead  map[string]bool // by address; the others answer
	asked int
}

func (w *world) probe(_ context.Context, e catalog.Endpoint) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.dead[e.Addr] {
		return fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	}
	return nil
}

func (w *world) kill(addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead == nil {
		w.dead = make(map[string]bool)
	}
	w.dead[addr] = true
}

func (w *world) probes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// protected follows the etcd at addr with the protection on.
func protected(t *testing.T, addr string) (*discovery.Watcher, *world, *backendtest.Logbook) {
	t.Helper()
	log, fleet := new(backendtest.Logbook), new(world)
	logger := slog.New(slog.NewTextHandler(log, nil))
	store, err := etcd.Open("etcd://"+addr, logger)
	if err != nil {
		t.Fatal(err)
	}
	w := discovery.New(discovery.Config{Store: store, Log: logger, Probe: fleet.probe, LeaseAlive: store.LeaseAlive})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); store.Close() })
	return w, fleet, log
}

// announce puts n endpoints of service, h0:1 and so on, each under its own lease.
func announce(t *testing.T, s *etcdtest.Server, service string, n int) []clientv3.LeaseID {
	t.Helper()
	var leases []clientv3.LeaseID
	for i := range n {
		grant, err := s.Client().Grant(t.Context(), 600)
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("/%s/%d", service, i)
		_, err = s.Client().Txn(t.Context()).Then(
			clientv3.OpPut("/services"+key, fmt.Sprintf("h%d:1", i), clientv3.WithLease(grant.ID)),
			clientv3.OpPut("/services.meta"+key, `{"weight":7}`, clientv3.WithLease(grant.ID)),
		).Commit()
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, grant.ID)
	}
	return leases
}

// expire ends leases, as etcd does by itself at the end of their TTL.
func expire(t *testing.T, s *etcdtest.Server, leases ...clientv3.LeaseID) {
	t.Helper()
	for _, id := range leases {
		if _, err := s.Client().Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

func held(n int) func(*discovery.Watcher) bool {
	return func(w *discovery.Watcher) bool { return w.Status().Protection.Held == n }
}

func is(t *testing.T, w *discovery.Watcher, what string, f func(*discovery.Watcher) bool) {
	t.Helper()
	proctest.Eventually(t, what, func() bool { return f(w) })
}

// One expiry after the other is believed; when they become many the rest stays,
// and those that went shortly before come back, as long as they answer.
func TestManyExpiriesAreHeld(t *testing.T) {
	s := etcdtest.Start(t)
	leases := announce(t, s, "web", 10)
	w, fleet, log := protected(t, s.Addr())
	known := next(t, w, nil, has("web", 10))

	for i := range 2 {
		expire(t, s, leases[i])
		known = next(t, w, known, has("web", 9-i))
	}
	if n := w.Status().Protection.Held; n != 0 {
		t.Fatalf("two of ten expired and %d are held, want none", n)
	}
	fleet.kill("h3:1")
	expire(t, s, leases[2:9]...)
	is(t, w, "eight are held: nine expired, one of them answers no more", held(8))
	known = next(t, w, nil, has("web", 9))
	for _, e := range known.Service("web").Endpoints {
		if e.Addr == "h3:1" {
			t.Error("h3:1 is still there, though it does not answer")
		}
		if e.Weight != 7 {
			t.Errorf("%s has weight %d, want that of its metadata", e.Addr, e.Weight)
		}
	}

	// Announced again: the hold ends. Announced under another key: too.
	put(t, s, "/services/web/2", "h2:1")
	is(t, w, "seven are held", held(7))
	put(t, s, "/services/web/other", "h4:1")
	is(t, w, "six are held", held(6))
	s3 := next(t, w, nil, func(s *catalog.Snapshot) bool {
		return s.Entry(catalog.Place{Service: "web", ID: "other"}).Plain.Key != ""
	})
	if e := s3.Entry(catalog.Place{Service: "web", ID: "4"}); e.Plain.Key != "" {
		t.Errorf("the old key of a moved endpoint: %+v, want it gone", e)
	}

	// The rest dies, too.
	for i := range 9 {
		fleet.kill(fmt.Sprintf("h%d:1", i))
	}
	is(t, w, "none is held", held(0))
	next(t, w, nil, has("web", 3)) // 2, 9 and other
	if a, b := log.Count("many endpoints expired at once"), log.Count("no expired endpoint is held any more"); a != 1 || b != 1 {
		t.Errorf("logged the start %d times and the end %d times, want 1 and 1", a, b)
	}
}

// The last endpoint of a service stays while it answers, when its key expired;
// and goes at once when somebody deleted the key, or it had said that it leaves.
func TestTheLastEndpointOfAService(t *testing.T) {
	s := etcdtest.Start(t)
	leases := announce(t, s, "web", 1)
	announce(t, s, "deleted", 1)
	draining := announce(t, s, "draining", 1)
	put(t, s, "/services/plain/1", "h9:1")
	w, fleet, _ := protected(t, s.Addr())
	next(t, w, nil, has("web", 1))

	if _, err := s.Client().Txn(t.Context()).Then(
		clientv3.OpDelete("/services/draining/0"),
		clientv3.OpPut("/services.meta/draining/0", `{"addr":"h0:1","state":"draining"}`, clientv3.WithLease(draining[0])),
	).Commit(); err != nil {
		t.Fatal(err)
	}
	expire(t, s, draining[0])
	next(t, w, nil, has("draining", 0))
	if _, err := s.Client().Delete(t.Context(), "/services/plain/1"); err != nil { // it has no lease
		t.Fatal(err)
	}
	next(t, w, nil, has("plain", 0))
	if n := fleet.probes(); n != 0 || w.Status().Protection.Held != 0 {
		t.Errorf("clean deletes caused %d checks, %+v; want none", n, w.Status().Protection)
	}
	if _, err := s.Client().Delete(t.Context(), "/services/deleted/0"); err != nil { // its lease lives
		t.Fatal(err)
	}
	next(t, w, nil, has("deleted", 0))

	expire(t, s, leases[0])
	is(t, w, "it is held", func(w *discovery.Watcher) bool { return held(1)(w) && fleet.probes() > 2 })
	if !has("web", 1)(w.Snapshot()) {
		t.Error("the last endpoint is gone though it answers")
	}
	fleet.kill("h0:1")
	next(t, w, nil, has("web", 0))
}

// etcd comes back wiped: what answers stays until it is announced again.
func TestWipedStoreTakesNothingAway(t *testing.T) {
	s := etcdtest.Start(t)
	announce(t, s, "web", 5)
	announce(t, s, "api", 1)
	w, fleet, _ := protected(t, s.Addr())
	next(t, w, nil, func(s *catalog.Snapshot) bool { return has("web", 5)(s) && has("api", 1)(s) })
	fleet.kill("h4:1")
	s.Wipe()
	s.Restart()
	next(t, w, nil, has("web", 4)) // never fewer: the others answer
	is(t, w, "five are held", held(5))
	if !has("api", 1)(w.Snapshot()) {
		t.Error("api has lost its endpoint")
	}
	announce(t, s, "web", 4)
	announce(t, s, "api", 1)
	is(t, w, "none is held", held(0))
	next(t, w, nil, func(s *catalog.Snapshot) bool { return has("web", 4)(s) && has("api", 1)(s) })
}

// The switch lets everything go, and may be thrown back.
func TestProtectionCanBeSwitchedOff(t *testing.T) {
	s := etcdtest.Start(t)
	leases := announce(t, s, "web", 1)
	w, _, _ := protected(t, s.Addr())
	known := next(t, w, nil, has("web", 1))
	expire(t, s, leases[0])
	is(t, w, "it is held", held(1))
	put(t, s, "/muster/protect", "off\n")
	known = next(t, w, known, has("web", 0))
	is(t, w, "the status says off", func(w *discovery.Watcher) bool { return w.Status().Protection.Off })

	leases = announce(t, s, "web", 1)
	known = next(t, w, known, has("web", 1))
	expire(t, s, leases[0])
	known = next(t, w, known, has("web", 0))

	if _, err := s.Client().Delete(t.Context(), "/muster/protect"); err != nil {
		t.Fatal(err)
	}
	is(t, w, "the status says on", func(w *discovery.Watcher) bool { return !w.Status().Protection.Off })
	leases = announce(t, s, "web", 1)
	next(t, w, known, has("web", 1))
	expire(t, s, leases[0])
	is(t, w, "it is held", held(1))
}

// Who can't say whether a lease lives is not believed; the check decides.
func TestExpiryWithoutAnAnswerAboutTheLease(t *testing.T) {
	s := etcdtest.Start(t)
	leases := announce(t, s, "web", 1)
	store, err := etcd.Open("etcd://"+s.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	fleet := new(world)
	w := discovery.New(discovery.Config{
		Store: store, Log: slog.New(slog.DiscardHandler), Probe: fleet.probe,
		LeaseAlive: func(context.Context, int64) (bool, error) { return false, errors.New("away") },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); store.Close() })
	next(t, w, nil, has("web", 1))
	expire(t, s, leases[0])
	is(t, w, "it is held and was asked", func(w *discovery.Watcher) bool { return held(1)(w) && fleet.probes() > 0 })
	fleet.kill("h0:1")
	next(t, w, nil, has("web", 0))
}
