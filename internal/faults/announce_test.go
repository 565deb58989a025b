package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

const (
	key     = "/services/web/a"
	metaKey = "/services.meta/web/a"
	theirs  = "/naive/a"
)

// A sidekick that is killed is gone after its TTL, never before; and the
// balancer still serves the app, which is well (A1). A plain put stays for ever.
func TestKilledSidekickExpiresWhileItsAppIsServed(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 3))
	seen := record(t, s, "/")
	put(t, s, theirs, addr) // bites: nobody takes it away
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	l := startLoad(t, "http://"+b.addr+"/")
	l.waitFor(t, 10, "A")
	began := time.Now()
	side.Signal(syscall.SIGKILL)
	gone := seen.is(t, key, "")
	if after := gone.at.Sub(began); after < 3*time.Second*2/3-500*time.Millisecond {
		t.Errorf("the key went after %v, before its TTL of 3 s since a renewal at most 1 s ago", after)
	}
	l.waitFor(t, 50, "A")
	l.faultless(t)
	b.WaitFor("an endpoint expired, the last one")
	if got := b.metric("muster_protect_active"); got != "1" {
		t.Errorf("muster_protect_active is %q, want 1", got)
	}
	seen.wants(t, theirs, 1, 0)
}

// SIGTERM: the value goes at once and the metadata say draining, in one
// revision; then they go, too; exit code 0 (A2). A session's key stays until its
// TTL.
func TestTermWithdrawsAtOnce(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 60))
	other := naive(t, 60, theirs, addr, s.Addr())
	seen := record(t, s, "/")
	seen.is(t, key, addr)
	other.Signal(syscall.SIGTERM)
	other.Wait()
	side.Signal(syscall.SIGTERM)
	if code := side.Wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	seen.is(t, key, "")
	seen.is(t, metaKey, "")
	if meta := seen.of(metaKey); len(meta) != 3 || !strings.Contains(meta[1].value, `"state":"draining"`) || !meta[2].deleted {
		t.Errorf("metadata: %+v, want up, draining, deleted", meta)
	}
	seen.wants(t, theirs, 1, 0) // bites
	if leases, err := s.Client().Leases(t.Context()); err != nil || len(leases.Leases) != 1 {
		t.Errorf("leases: %+v, %v; want the session's alone", leases, err)
	}
}

// The app that the sidekick runs dies: withdrawn at once (A3). A session of
// somebody beside it knows nothing of it.
func TestDeathOfTheAppWithdrawsAtOnce(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	addr := proctest.FreeAddr(t)
	binary := proctest.Build(t, "muster/cmd/muster")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 60, "-interval", "1h", "--", "sh", "-c", "echo pid=$$; exec "+binary+" echo -name A -listen "+addr))
	naive(t, 60, theirs, addr, s.Addr())
	seen := record(t, s, "/")
	seen.is(t, key, addr)
	var pid int
	if _, err := fmt.Sscanf(side.WaitFor("pid="), "pid=%d", &pid); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	seen.is(t, key, "")
	if code := side.Wait(); code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
	seen.wants(t, theirs, 1, 0) // bites
}

// etcd is killed and comes back: nobody sees an event (A6). Meanwhile it really
// is away, for as long as a session needs to give up: its key goes then, though
// etcd gives every lease a whole TTL when it starts.
func TestEtcdKilledAndBack(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 3))
	other := naive(t, 3, theirs, addr, s.Addr())
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	l := startLoad(t, "http://"+b.addr+"/")
	for range 2 {
		s.Kill()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := s.Client().Get(ctx, key); err == nil {
			t.Error("the fault does not bite: etcd answers")
		}
		cancel()
		other.WaitFor("naive: lost") // and the second time at once
		l.waitFor(t, 30, "A")
		s.Restart()
	}
	seen := record(t, s, "/")
	side.WaitFor("lease is renewed again")
	l.waitFor(t, 200, "A") // longer than a TTL could be left
	seen.is(t, key, addr)
	seen.wants(t, key, 1, 0)
	seen.wants(t, metaKey, 1, 0)
	l.faultless(t)
	seen.is(t, theirs, "") // bites
}

// etcd is away for longer than the TTL (A7): the lease is taken up again before
// anything is written. The session has ended, and its key goes.
func TestEtcdAwayForLongerThanTheTTL(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 3))
	other := naive(t, 3, theirs, addr, s.Addr())
	s.Kill()
	other.WaitFor("naive: lost")
	time.Sleep(3 * time.Second)
	s.Restart()
	seen := record(t, s, "/")
	side.WaitFor("lease is renewed again")
	seen.is(t, theirs, "") // bites
	seen.is(t, key, addr)
	seen.wants(t, key, 1, 0)
	seen.wants(t, metaKey, 1, 0)
}

// etcd stands still for longer than the TTL and deletes what it has when it goes
// on (A8): announced again at once, and no request fails.
func TestEtcdFrozenForLongerThanTheTTL(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 3))
	other := naive(t, 3, theirs, addr, s.Addr())
	seen := record(t, s, "/")
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	l := startLoad(t, "http://"+b.addr+"/")
	l.waitFor(t, 10, "A")
	s.Stop()
	other.WaitFor("naive: lost")
	side.WaitFor("lease is not renewed")
	time.Sleep(3 * time.Second)
	s.Cont()
	seen.is(t, theirs, "") // bites, for good
	side.WaitFor("lease is renewed again")
	seen.is(t, key, addr)
	l.waitFor(t, 50, "A")
	l.faultless(t)
	if _, d := seen.count(theirs); d != 1 {
		t.Errorf("the session's key was deleted %d times, want once", d)
	}
}

// The leader is killed (A10): no live key goes, and what nobody renews does. There
// really is another leader then. A session mostly outlives it, as the new leader
// gives every lease a whole TTL: of ten with a TTL of 2 s one was lost, once in
// two runs, and none with 3 s.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	s := etcdtest.Cluster(t, 3)
	_, addr := app(t, "A")
	urls := etcdURL(s[0].Addr(), s[1].Addr(), s[2].Addr())
	announced(sidekick(t, urls, "a", addr, 5))
	b := balance(t, urls)
	b.serves(t, "A")
	leader := 0
	for i := range s {
		if s[i].IsLeader() {
			leader = i
		}
	}
	rest := s[(leader+1)%3]
	seen := record(t, rest, "/services")
	seen.is(t, key, addr)
	l := startLoad(t, "http://"+b.addr+"/")
	grant, err := rest.Client().Grant(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	put(t, rest, theirs, "orphan", clientv3.WithLease(grant.ID)) // bites: nobody renews it
	orphan := record(t, rest, theirs)
	other := naive(t, 5, "/naive/session", addr, s[0].Addr(), s[1].Addr(), s[2].Addr())
	for now := range s { // a busy machine may have chosen another one meanwhile
		if now != leader && s[now].IsLeader() {
			resp, err := s[leader].Client().Status(t.Context(), s[leader].Addr())
			if err == nil {
				_, err = s[now].Client().MoveLeader(t.Context(), resp.Header.MemberId)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	before := term(t, rest)
	s[leader].Kill()
	orphan.is(t, theirs, "")
	if after := term(t, rest); after <= before {
		t.Errorf("the fault does not bite: raft term %d, before the leader was killed %d", after, before)
	}
	l.waitFor(t, 50, "A")
	seen.wants(t, key, 1, 0)
	seen.wants(t, metaKey, 1, 0)
	l.faultless(t)
	t.Logf("the session was lost: %v", strings.Contains(other.Output(), "naive: lost"))
}

// term is how many elections there have been, as one member knows.
func term(t *testing.T, s *etcdtest.Server) uint64 {
	t.Helper()
	resp, err := s.Client().Status(t.Context(), s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return resp.RaftTerm
}

// The sidekick is cut off for longer than its TTL (A12): its key goes, the
// balancer serves on, and the key is back once the network is. The session's is
// not.
func TestPartitionForLongerThanTheTTL(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	_, addr := app(t, "A")
	announced(sidekick(t, etcdURL(r.Addr()), "a", addr, 3))
	other := naive(t, 3, theirs, addr, r.Addr())
	seen := record(t, s, "/")
	seen.is(t, key, addr)
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	l := startLoad(t, "http://"+b.addr+"/")
	r.Blackhole()
	seen.is(t, key, "")
	seen.is(t, theirs, "")
	other.WaitFor("naive: lost")
	r.Heal()
	seen.is(t, key, addr)
	seen.wants(t, key, 2, 1)
	l.waitFor(t, 50, "A")
	l.faultless(t)
	seen.wants(t, theirs, 1, 1) // bites
}

// Two sidekicks announce other addresses under one key (A15): the second is
// refused and says who holds it; it takes the key when the first has left. Plain
// clients would overwrite each other.
func TestSecondSidekickOfOneKeyIsRefused(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addrA := app(t, "A")
	_, addrB := app(t, "B")
	seen := record(t, s, "/")
	first := announced(sidekick(t, etcdURL(s.Addr()), "a", addrA, 60))
	naive(t, 60, theirs, addrA, s.Addr())
	naive(t, 60, theirs, addrB, s.Addr())
	seen.is(t, theirs, addrB) // bites: the first is overwritten
	second := sidekick(t, etcdURL(s.Addr()), "a", addrB, 60)
	line := second.WaitFor("another holds the key, waiting until it is free")
	lease := fmt.Sprintf("%x", seen.of(key)[0].lease)
	if !strings.Contains(line, lease) || !strings.Contains(line, addrA) {
		t.Errorf("the second says %q, want lease %s and value %s in it", line, lease, addrA)
	}
	seen.wants(t, key, 1, 0)
	first.Signal(syscall.SIGTERM)
	first.Wait()
	announced(second)
	seen.is(t, key, addrB)
	seen.wants(t, key, 2, 1)
}

// Somebody puts over the key without a lease, where it would stay for ever (A16),
// or deletes it (A17): put right at once. The session's is not.
func TestForeignPutAndDeleteArePutRight(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 60))
	naive(t, 60, theirs, addr, s.Addr())
	seen := record(t, s, "/")
	lease := seen.is(t, key, addr).lease
	for _, k := range []string{key, theirs} {
		put(t, s, k, "10.9.9.9:1")
	}
	proctest.Eventually(t, "the put is put right", func() bool { p, _ := seen.count(key); return p == 3 })
	if got := seen.is(t, key, addr); got.lease != lease {
		t.Errorf("put right under lease %x, want %x", got.lease, lease)
	}
	for _, k := range []string{key, theirs} {
		del(t, s, k)
	}
	proctest.Eventually(t, "the delete is put right", func() bool { p, d := seen.count(key); return p == 4 && d == 1 })
	seen.is(t, key, addr)
	seen.is(t, theirs, "") // bites
	seen.wants(t, theirs, 2, 1)
}

// The login runs out while everything is quiet (A18): renewals go on, and a new
// stream takes a new one. A plain stream with the old one is canceled.
func TestExpiredLoginIsTakenAnew(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Auth("muster", "secret"), etcdtest.TokenTTL(5),
		etcdtest.Flags("--bcrypt-cost", "4")) // so that a busy machine can log in within the time that a login is good for
	r := etcdtest.NewRelay(t, s.Addr())
	_, addr := app(t, "A")
	announced(sidekick(t, "etcd://muster:secret@"+r.Addr(), "a", addr, 5))
	seen := record(t, s, "/services")
	b := balance(t, "etcd://muster:secret@"+r.Addr())
	b.serves(t, "A")
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Addr()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	login, err := c.Authenticate(t.Context(), "muster", "secret")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(12 * time.Second)
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "token", login.Token), proctest.Patience)
	defer cancel()
	stream, err := etcdserverpb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
	if err == nil {
		err = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(key)},
		}})
	}
	var answer *etcdserverpb.WatchResponse
	if err == nil {
		answer, err = stream.Recv()
	}
	if err != nil || !answer.Canceled || !strings.Contains(answer.CancelReason, "auth token") {
		t.Errorf("the fault does not bite: a plain stream got %+v, %v; want an invalid auth token", answer, err)
	}
	r.Cut()
	del(t, s, key) // the watch of the sidekick's own keys is a new one
	seen.is(t, key, addr)
	_, addrB := app(t, "B")
	put(t, s, "/services/web/b", addrB) // and so is the balancer's
	b.serves(t, "B")
}

// etcd is not there when the sidekick starts (A19). A session is an error then.
func TestSidekickStartsBeforeEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	s.Kill()
	_, addr := app(t, "A")
	other := proctest.Start(t, "naive", []string{"NAIVE_ANNOUNCER=" + s.Addr(), "NAIVE_TTL=5", "NAIVE_KEY=" + theirs}, os.Args[0])
	side := sidekick(t, etcdURL(s.Addr()), "a", addr, 5)
	side.WaitFor("lease is not renewed")
	b := balance(t, etcdURL(s.Addr()))
	b.WaitFor("store is away")
	if code := other.Wait(); code != 1 {
		t.Errorf("the fault does not bite: the naive announcer ended with %d, want 1", code)
	}
	s.Restart()
	announced(side)
	b.serves(t, "A")
	if n := strings.Count(side.Output(), "lease is not renewed"); n != 1 {
		t.Errorf("said %d times that etcd is away, want once", n)
	}
}

// etcd was away for long (A22): it is found again at once, and not after the
// backoff of gRPC, which has grown meanwhile.
func TestLongOutageIsOverAtOnce(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 15))
	// Stock clients, which try on in the background, as all do.
	const stock = 4
	clients := make([]*clientv3.Client, stock)
	for i := range clients {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Addr()}, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		clients[i] = c
	}
	s.Kill()
	back := make(chan time.Time, stock)
	for _, c := range clients {
		go func() {
			for {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := c.Get(ctx, key)
				cancel()
				if err == nil || t.Context().Err() != nil {
					back <- time.Now()
					return
				}
			}
		}()
	}
	time.Sleep(25 * time.Second)
	s.Restart()
	ready := time.Now()
	side.WaitFor("lease is renewed again")
	ours := time.Since(ready)
	var slowest time.Duration
	for range stock {
		slowest = max(slowest, (<-back).Sub(ready))
	}
	t.Logf("after 25 s without etcd: the sidekick is back after %v, the slowest of %d stock clients after %v", ours, stock, slowest)
	if ours >= slowest {
		t.Error("the sidekick was not faster than the stock clients")
	}
}

// Nothing is announced before the app answers (A24); who announces at the start
// sends requests to nobody.
func TestSlowAppIsAnnouncedWhenItAnswers(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	addr := proctest.FreeAddr(t)
	seen := record(t, s, "/")
	naive(t, 60, theirs, addr, s.Addr())
	seen.is(t, theirs, addr)
	if status, _ := fetch("http://" + addr + "/"); status != 0 {
		t.Error("the fault does not bite: the app answers already")
	}
	_, addrB := app(t, "B")
	put(t, s, "/services/web/b", addrB)
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "B")
	l := startLoad(t, "http://"+b.addr+"/")
	binary := proctest.Build(t, "muster/cmd/muster")
	begin := filepath.Join(t.TempDir(), "begin")
	side := sidekick(t, etcdURL(s.Addr()), "a", addr, 15, "--", "sh", "-c", "until [ -e "+begin+" ]; do sleep 0.1; done; exec "+binary+" echo -name A -listen "+addr)
	l.waitFor(t, 100, "B") // two seconds
	seen.wants(t, key, 0, 0)
	if err := os.WriteFile(begin, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	announced(side)
	l.waitFor(t, 20, "A", "B")
	l.faultless(t)
}

// A sidekick is restarted, politely with -on-exit keep and by kill -9 (A26): the
// next one takes lease and keys up, and nobody sees an event. A session announces
// anew, and its first key would have gone.
func TestRestartOfASidekickIsSilent(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	state := t.TempDir()
	start := func() *proctest.Proc {
		return sidekick(t, etcdURL(s.Addr()), "a", addr, 15, "-state", state, "-on-exit", "keep")
	}
	seen := record(t, s, "/")
	side := announced(start())
	lease := seen.is(t, key, addr).lease
	other := naive(t, 15, theirs, addr, s.Addr())
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		side.Signal(sig)
		side.Wait()
		side = announced(start())
	}
	other.Signal(syscall.SIGKILL)
	other.Wait()
	naive(t, 15, theirs, addr, s.Addr())
	put(t, s, "/mark", "x")
	seen.is(t, "/mark", "x")
	seen.wants(t, key, 1, 0)
	seen.wants(t, metaKey, 1, 0)
	seen.wants(t, theirs, 2, 0) // bites
	if leases, err := s.Client().Leases(t.Context()); err != nil || len(leases.Leases) != 3 {
		t.Errorf("leases: %+v, %v; want the sidekick's %x and the two of the sessions", leases, err, lease)
	}
}
