//go:build chaos

package faults

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/backends/etcd"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// The app hangs (A4): a check by http notices, one by tcp can't, as the kernel
// goes on taking connections. Nor does a session.
func TestAppHangs(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	hung, addr := app(t, "A")
	announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 60, "-health", "http:/", "-timeout", "500ms"))
	announced(sidekick(t, etcdURL(s.Addr()), "tcp", addr, 60))
	naive(t, 60, theirs, addr, s.Addr())
	seen := record(t, s, "/")
	seen.is(t, key, addr)
	hung.Signal(syscall.SIGSTOP)
	seen.is(t, key, "")
	hung.Signal(syscall.SIGCONT)
	seen.is(t, key, addr)
	seen.wants(t, key, 2, 1)
	seen.wants(t, "/services/web/tcp", 1, 0)
	seen.wants(t, theirs, 1, 0) // bites
}

// The machine of one app dies with its sidekick (A5), its connections with it: no
// request fails, long before the key has expired.
func TestMachineDies(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addrA := app(t, "A")
	deadApp, addrB := app(t, "B")
	r := etcdtest.NewRelay(t, addrB)
	announced(sidekick(t, etcdURL(s.Addr()), "a", addrA, 60))
	deadSide := announced(sidekick(t, etcdURL(s.Addr()), "b", r.Addr(), 60))
	seen := record(t, s, "/services/web/b")
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	b.serves(t, "B")
	l := startLoad(t, "http://"+b.addr+"/")
	l.waitFor(t, 10, "A", "B")
	r.Refuse()
	deadSide.Signal(syscall.SIGKILL)
	deadApp.Signal(syscall.SIGKILL)
	l.waitFor(t, 200, "A")
	l.faultless(t)
	seen.wants(t, "/services/web/b", 1, 0) // bites: who believes etcd sends requests to it still
}

// Two members of three are away for longer than the TTL (A11): no key goes, the
// sidekick says once that it can't renew, and the app's checks go on. A session
// has ended by then.
func TestQuorumLost(t *testing.T) {
	t.Parallel()
	s := etcdtest.Cluster(t, 3)
	_, addr := app(t, "A")
	addrs := []string{s[0].Addr(), s[1].Addr(), s[2].Addr()}
	side := announced(sidekick(t, etcdURL(addrs...), "a", addr, 5))
	other := naive(t, 5, theirs, addr, addrs...)
	s[1].Kill()
	s[2].Kill()
	other.WaitFor("naive: lost")
	side.WaitFor("lease is not renewed")
	time.Sleep(5 * time.Second)
	// Neither is ready before the other one is.
	var wg sync.WaitGroup
	wg.Go(s[1].Restart)
	wg.Go(s[2].Restart)
	wg.Wait()
	seen := record(t, s[0], "/")
	side.WaitFor("lease is renewed again")
	seen.is(t, theirs, "") // bites
	seen.is(t, key, addr)
	seen.wants(t, key, 1, 0)
	seen.wants(t, metaKey, 1, 0)
	if n := strings.Count(side.Output(), "lease is not renewed"); n != 1 {
		t.Errorf("said %d times that the lease is not renewed, want once", n)
	}
}

// The monotonic clock of the sidekick is another one than that of the machine, by
// years (A14), as in a time namespace: nothing follows from it. (The wall clock of
// one process can't be set, and that of the machine is not a test's. etcd and Go
// keep times by the monotonic one.)
func TestSidekickOfAnotherTime(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "--time", "--fork", "--monotonic", "1", "true").CombinedOutput(); err != nil {
		t.Skipf("no time namespace: %v: %s", err, out)
	}
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	side := proctest.Start(t, "sidekick", nil, "unshare", "--time", "--fork", "--kill-child", "--monotonic", "100000000", "--boottime", "100000000",
		proctest.Build(t, "muster/cmd/muster"), "sidekick", "web", "-id", "a", "-addr", addr, "-store", etcdURL(s.Addr()), "-ttl", "2s", "-drain", "0s")
	announced(side)
	seen := record(t, s, "/")
	time.Sleep(8 * time.Second) // four TTLs
	seen.is(t, key, addr)
	seen.wants(t, key, 1, 0)
	if strings.Contains(side.Output(), "lease is gone") {
		t.Errorf("it is not well: %s", side.Output())
	}
}

// etcd has no space left (A20): puts and new leases are refused, what is announced
// stays for many TTLs, and what has changed is written when there is space again.
// Whoever gets a new lease to be on the safe side, loses.
func TestEtcdWithoutSpace(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Flags("--quota-backend-bytes", "4194304"))
	_, addr := app(t, "A")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 2))
	seen := record(t, s, "/services")
	for i := 0; ; i++ {
		if _, err := s.Client().Put(t.Context(), fmt.Sprint("/fill/", i), strings.Repeat("x", 256<<10)); err != nil {
			break
		}
	}
	if _, err := s.Client().Grant(t.Context(), 2); err == nil {
		t.Error("the fault does not bite: etcd grants a lease")
	}
	_, addrB := app(t, "B")
	late := sidekick(t, etcdURL(s.Addr()), "b", addrB, 2)
	late.WaitFor("database space exceeded")
	time.Sleep(20 * time.Second) // ten TTLs
	seen.is(t, key, addr)
	seen.wants(t, key, 1, 0)
	if strings.Contains(side.Output(), "lease is gone") {
		t.Errorf("who is announced has lost the lease: %s", side.Output())
	}
	c := s.Client()
	resp, err := c.Delete(t.Context(), "/fill/", clientv3.WithPrefix())
	if err == nil {
		_, err = c.Compact(t.Context(), resp.Header.Revision)
	}
	if err == nil {
		_, err = c.Defragment(t.Context(), s.Addr())
	}
	if err == nil {
		_, err = c.AlarmDisarm(t.Context(), new(clientv3.AlarmMember))
	}
	if err != nil {
		t.Fatal(err)
	}
	announced(late)
	seen.wants(t, key, 1, 0)
}

// Many announcers come back at once after an outage (A23): they take their
// leases up again, which costs etcd not one write; whoever announces anew needs one
// for each key. How long a bystander's put takes meanwhile is logged.
func TestHerdAfterAnOutage(t *testing.T) {
	const herd = 200 // in one process, which is what limits it: 2,000 without the race detector took 1.9 s
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	store, err := etcd.Open(etcdURL(r.Addr()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); running.Wait(); store.Close() })
	leases := make([]*etcd.Lease, herd)
	for i := range leases {
		leases[i] = store.Lease(60 * time.Second)
		running.Go(func() { _ = leases[i].Run(ctx) })
	}
	for i, l := range leases {
		if err := l.Write(ctx, []backends.KV{{Key: fmt.Sprint("/services/herd/", i), Value: "10.0.0.1:1"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	ids := make([]int64, herd)
	for i, l := range leases {
		ids[i] = l.ID()
	}
	seen := record(t, s, "/services/herd/")
	r.Refuse()
	time.Sleep(25 * time.Second) // each wants to renew by now
	healed := time.Now()
	r.Heal()
	before := put(t, s, "/bystander", "x")
	var puts []time.Duration
	back := func() (n int) {
		for _, l := range leases {
			if l.Renewed().After(healed) {
				n++
			}
		}
		return n
	}
	for back() < herd && time.Since(healed) < 2*time.Minute {
		began := time.Now()
		put(t, s, "/bystander", "x")
		puts = append(puts, time.Since(began))
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(healed)
	slices.Sort(puts)
	t.Logf("%d are back after %v; %d puts of a bystander: median %v, p99 %v", back(), took.Round(time.Millisecond), len(puts), puts[len(puts)/2], puts[len(puts)*99/100])
	for i, l := range leases {
		if l.ID() != ids[i] {
			t.Fatalf("announcer %d has lease %x, want %x taken up again", i, l.ID(), ids[i])
		}
	}
	if n := len(seen.of("/services/herd/0")); back() != herd || n != 1 {
		t.Errorf("%d of %d are back; %d events of one key, want 1", back(), herd, n)
	}
	if after := put(t, s, "/bystander", "x"); after != before+int64(len(puts))+1 {
		t.Errorf("from revision %d to %d with %d puts of the bystander: want no write of the herd's", before, after, len(puts))
	}
}
