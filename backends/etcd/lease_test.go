package etcd_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/etcd"
	"muster/internal/etcdtest"
)

// hold runs a lease until the test ends, or stop is called.
func hold(t testing.TB, l *etcd.Lease) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

func write(t testing.TB, l *etcd.Lease, key, value string) {
	t.Helper()
	if err := l.Write(within(t), []backends.KV{{Key: key, Value: value}}, nil); err != nil {
		t.Fatal(err)
	}
}

func lost(t testing.TB, l *etcd.Lease) {
	t.Helper()
	select {
	case <-l.Lost():
	case <-within(t).Done():
		t.Fatal("Lost was not signalled")
	}
}

func TestLeaseKeepsKeysUntilItEnds(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	l := open(t, "etcd://"+s.Addr(), nil).Lease(time.Second)
	stop := hold(t, l)
	write(t, l, "/services/web/1", "10.0.0.1:80")
	if got, want := get(t, s, "/services/web/1"), (held{"10.0.0.1:80", l.ID()}); got != want || l.ID() == 0 {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	// It outlives several TTLs: a bystander's lease of the same TTL comes and
	// goes, more than once.
	for range 2 {
		grant, err := s.Client().Grant(within(t), 2)
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "/bystander", "x", clientv3.WithLease(grant.ID))
		eventually(t, "the bystander is gone", func() bool { return get(t, s, "/bystander") == held{} })
	}
	if got := get(t, s, "/services/web/1"); got.lease != l.ID() {
		t.Fatalf("while renewed: got %+v, want lease %x", got, l.ID())
	}
	stop()
	eventually(t, "the key is gone", func() bool { return get(t, s, "/services/web/1") == held{} })
	select {
	case <-l.Lost():
		t.Error("Lost was signalled without a new lease")
	default:
	}
}

func TestRevokeDeletesAtOnceAndEndsRun(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	l := open(t, "etcd://"+s.Addr(), nil).Lease(time.Hour)
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(context.Background()) })
	write(t, l, "/k", "v")
	if err := l.Revoke(within(t)); err != nil {
		t.Fatal(err)
	}
	wg.Wait() // without its context ended
	if got := get(t, s, "/k"); got != (held{}) {
		t.Errorf("after Revoke: got %+v, want nothing", got)
	}
	if err := l.Write(within(t), []backends.KV{{Key: "/k", Value: "v"}}, nil); !errors.Is(err, etcd.ErrRevoked) {
		t.Errorf("Write after Revoke: got %v, want ErrRevoked", err)
	}
}

func TestLostLeaseIsGrantedAnewAndAnnounced(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	var log backendtest.Logbook
	l := open(t, "etcd://"+s.Addr(), log.Logger()).Lease(time.Second)
	hold(t, l)
	write(t, l, "/k", "v")
	old := l.ID()
	if _, err := s.Client().Revoke(within(t), clientv3.LeaseID(old)); err != nil {
		t.Fatal(err)
	}
	lost(t, l)
	if l.ID() == old || l.ID() == 0 {
		t.Fatalf("ID: got %x, want another than %x", l.ID(), old)
	}
	write(t, l, "/k", "v")
	if got, want := get(t, s, "/k"), (held{"v", l.ID()}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if n := log.Count("lease is gone"); n != 1 {
		t.Errorf("the log says %d times that the lease is gone, want 1:\n%s", n, log.String())
	}

	// The fault bites: the client's own KeepAlive ends, and that is all.
	grant, err := s.Client().Grant(within(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := s.Client().KeepAlive(within(t), grant.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client().Revoke(within(t), grant.ID); err != nil {
		t.Fatal(err)
	}
	for range alive {
		// until it closes
	}
}

func TestWriteNoticesALostLeaseByItself(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	l := open(t, "etcd://"+s.Addr(), nil).Lease(time.Hour) // no renewal during the test
	hold(t, l)
	write(t, l, "/k", "v")
	if _, err := s.Client().Revoke(within(t), clientv3.LeaseID(l.ID())); err != nil {
		t.Fatal(err)
	}
	write(t, l, "/other", "v")
	lost(t, l) // so that /k is written again too
	if got, want := get(t, s, "/other"), (held{"v", l.ID()}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWriteIsGuarded(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	store := open(t, "etcd://"+s.Addr(), nil)
	a, b := store.Lease(time.Minute), store.Lease(time.Minute)
	hold(t, a)
	hold(t, b)
	write(t, a, "/k", "a")

	err := b.Write(within(t), []backends.KV{{Key: "/free", Value: "b"}, {Key: "/k", Value: "b"}}, nil)
	conflict, ok := errors.AsType[*etcd.ConflictError](err)
	if want := (etcd.ConflictError{Key: "/k", Value: "a", Lease: a.ID()}); !ok || *conflict != want {
		t.Fatalf("put over another's key: got %v, want %+v", err, want)
	}
	if got := get(t, s, "/free"); got != (held{}) {
		t.Errorf("a refused Write wrote /free: %+v", got)
	}

	// Another's key is not deleted, and keeps nothing else from happening.
	if err := b.Write(within(t), []backends.KV{{Key: "/free", Value: "b"}}, []string{"/k", "/absent"}); err != nil {
		t.Fatal(err)
	}
	if got, want := get(t, s, "/k"), (held{"a", a.ID()}); got != want {
		t.Errorf("after another's delete: got %+v, want %+v", got, want)
	}
	if got, want := get(t, s, "/free"), (held{"b", b.ID()}); got != want {
		t.Errorf("beside it: got %+v, want %+v", got, want)
	}

	// Its own it changes and deletes, both in one revision.
	rev := put(t, s, "/mark", "")
	if err := a.Write(within(t), []backends.KV{{Key: "/k.meta", Value: "draining"}}, []string{"/k"}); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Get(within(t), "/k", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) != 1 || string(resp.Kvs[0].Key) != "/k.meta" || resp.Header.Revision != rev+1 {
		t.Errorf("after one Write of put and delete: got %v at %d, want /k.meta at %d", resp.Kvs, resp.Header.Revision, rev+1)
	}

	// A key without a lease is adopted if it says the same, else it is somebody's.
	put(t, s, "/plain", "same")
	write(t, a, "/plain", "same")
	if got, want := get(t, s, "/plain"), (held{"same", a.ID()}); got != want {
		t.Errorf("adopt: got %+v, want %+v", got, want)
	}
	put(t, s, "/plain", "foreign")
	err = a.Write(within(t), []backends.KV{{Key: "/plain", Value: "mine"}}, nil)
	if c, ok := errors.AsType[*etcd.ConflictError](err); !ok || c.Lease != 0 || c.Value != "foreign" {
		t.Errorf("put over a foreign plain key: got %v, want a conflict", err)
	}

	// Unless told to.
	boss := store.Lease(time.Minute)
	boss.TakeOver = true
	hold(t, boss)
	write(t, boss, "/plain", "mine")
	if got, want := get(t, s, "/plain"), (held{"mine", boss.ID()}); got != want {
		t.Errorf("take over: got %+v, want %+v", got, want)
	}

	if err := a.Write(within(t), make([]backends.KV, 129), nil); err == nil {
		t.Error("129 keys: got no error")
	}
}

func TestLeaseWaitsForEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	s.Kill()
	var log backendtest.Logbook
	store := open(t, "etcd://"+s.Addr(), log.Logger())
	l := store.Lease(2 * time.Second)
	hold(t, l)

	short, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err := l.Write(short, []backends.KV{{Key: "/k", Value: "v"}}, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Write without etcd: got %v, want the deadline", err)
	}
	if want := `write "/k": context deadline exceeded: etcd ` + s.Addr() + `: dial tcp `; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Write without etcd: got %v, want %s…", err, want)
	}

	wrote := make(chan error, 1)
	go func() {
		wrote <- l.Write(within(t), []backends.KV{{Key: "/k", Value: "v"}}, nil)
	}()
	eventually(t, "the log says it", func() bool { return log.Count("lease is not renewed") == 1 })
	s.Restart()
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if got, want := get(t, s, "/k"), (held{"v", l.ID()}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	eventually(t, "the log says that it ended", func() bool { return log.Count("lease is renewed again") == 1 })

	// Away for longer than the TTL: the same lease is taken up again.
	id := l.ID()
	s.Kill()
	eventually(t, "the log says it again", func() bool { return log.Count("lease is not renewed") == 2 })
	time.Sleep(3 * time.Second)
	s.Restart()
	eventually(t, "it is renewed again", func() bool { return log.Count("lease is renewed again") == 2 })
	if got, want := get(t, s, "/k"), (held{"v", id}); got != want || l.ID() != id {
		t.Errorf("after an outage: got %+v and lease %x, want %+v", got, l.ID(), want)
	}

	// Away with a lease at hand: it says what is with etcd, not only that time
	// is up.
	s.Kill()
	short, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err = l.Write(short, []backends.KV{{Key: "/k", Value: "w"}}, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "etcd "+s.Addr()+": ") {
		t.Errorf("Write without etcd: got %v, want the deadline and the reason", err)
	}
	eventually(t, "the log says it again", func() bool { return log.Count("lease is not renewed") == 3 })
	s.Restart()
	write(t, l, "/k", "w")
	if n := log.Count("lease is not renewed"); n != 3 {
		t.Errorf("three outages were logged %d times:\n%s", n, log.String())
	}
}

func TestLeaseMovesToAnotherMember(t *testing.T) {
	t.Parallel()
	s := etcdtest.Cluster(t, 3)
	first := etcdtest.NewRelay(t, s[0].Addr())
	l := open(t, "etcd://"+first.Addr()+","+s[1].Addr(), nil).Lease(3 * time.Second)
	hold(t, l)
	write(t, l, "/k", "v")
	id := l.ID()
	first.Blackhole()
	write(t, l, "/k", "w")      // through the second
	time.Sleep(4 * time.Second) // longer than the TTL
	if got, want := get(t, s[1], "/k"), (held{"w", id}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLeaseAlive(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	store := open(t, "etcd://"+s.Addr(), nil)
	grant, err := s.Client().Grant(within(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	if alive, err := store.LeaseAlive(within(t), int64(grant.ID)); !alive || err != nil {
		t.Errorf("a lease that lives: %v, %v; want true", alive, err)
	}
	if _, err := s.Client().Revoke(within(t), grant.ID); err != nil {
		t.Fatal(err)
	}
	if alive, err := store.LeaseAlive(within(t), int64(grant.ID)); alive || err != nil {
		t.Errorf("a lease that is gone: %v, %v; want false", alive, err)
	}
	s.Kill()
	if _, err := store.LeaseAlive(within(t), 1); err == nil {
		t.Error("without etcd: got no error")
	}
}
