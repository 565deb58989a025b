package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// endpoints are what the balancer has of a service, address by ID.
func (b balancer) endpoints(t *testing.T, service string) map[string]string {
	t.Helper()
	_, text := fetch("http://" + b.admin + "/api/v1/status")
	var status struct {
		Services []struct {
			Name      string
			Endpoints []struct{ ID, Addr, State string }
		}
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatalf("status: %v: %s", err, text)
	}
	table := make(map[string]string)
	for _, svc := range status.Services {
		for _, e := range svc.Endpoints {
			if svc.Name == service && e.State != "leaving" {
				table[e.ID] = e.Addr
			}
		}
	}
	return table
}

// wide starts an app that answers at n addresses of this machine, and returns
// them: 127.1.0.1:PORT and so on.
func wide(t *testing.T, name string, n int) []string {
	t.Helper()
	_, port, err := net.SplitHostPort(proctest.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp", "127.1.0.1:0"); err != nil {
		t.Skipf("this system has one loopback address only: %v", err)
	} else {
		l.Close()
	}
	muster(t, "app "+name, "echo", "-name", name, "-listen", "0.0.0.0:"+port).WaitFor(":" + port)
	var addrs []string
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("127.1.%d.%d:%s", i/200, 1+i%200, port))
	}
	return addrs
}

// putAll announces addrs as service web under one lease, and returns it.
func putAll(t *testing.T, s *etcdtest.Server, addrs []string) clientv3.LeaseID {
	t.Helper()
	grant, err := s.Client().Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	var ops []clientv3.Op
	for i, addr := range addrs {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("/services/web/%d", i), addr, clientv3.WithLease(grant.ID)))
		if len(ops) == 100 || i == len(addrs)-1 {
			if _, err := s.Client().Txn(t.Context()).Then(ops...).Commit(); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	return grant.ID
}

// etcd comes back empty (W7): no request fails, and the fleet is as it was once
// the sidekicks have announced again. A plain Watch never hears of it.
func TestWipedEtcdUnderLoad(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addrA := app(t, "A")
	_, addrB := app(t, "B")
	sideA := announced(sidekick(t, etcdURL(s.Addr()), "a", addrA, 5))
	announced(sidekick(t, etcdURL(s.Addr()), "b", addrB, 5))
	for range 50 { // what the wiped one will not reach soon
		put(t, s, "/elsewhere", "x")
	}
	plain := watchPlainly(t, s, "/services/")
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	b.serves(t, "B")
	l := startLoad(t, "http://"+b.addr+"/")
	l.waitFor(t, 10, "A", "B")
	s.Wipe()
	sideA.WaitFor("lease is not renewed")
	s.Restart()
	_, addrC := app(t, "C")
	put(t, s, "/services/web/c", addrC)
	l.waitFor(t, 50, "A", "B", "C")
	proctest.Eventually(t, "everything is announced again", func() bool {
		resp, err := s.Client().Get(t.Context(), "/services/", clientv3.WithPrefix())
		return err == nil && len(resp.Kvs) == 3 && b.metric("muster_protect_held_endpoints") == "0"
	})
	l.waitFor(t, 20, "A", "B", "C")
	l.faultless(t)
	if plain.has("/services/web/c") {
		t.Error("the fault does not bite: the plain Watch has the new one")
	}
}

// etcd is away (W12): what was known is served, an app that dies meanwhile costs
// no request, the balancer stays ready and says that it is stale.
func TestEtcdAwayUnderLoad(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	appA, addrA := app(t, "A")
	_, addrB := app(t, "B")
	put(t, s, "/services/web/a", addrA)
	put(t, s, "/services/web/b", addrB)
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	b.serves(t, "B")
	plain := watchPlainly(t, s, "/services/")
	l := startLoad(t, "http://"+b.addr+"/")
	s.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.Client().Get(ctx, "/services/web/a"); err == nil {
		t.Error("the fault does not bite: etcd answers")
	}
	proctest.Eventually(t, "it says that it is stale", func() bool { return b.metric("muster_store_stale") == "1" })
	l.waitFor(t, 50, "A", "B")
	appA.Signal(syscall.SIGKILL)
	appA.Wait()
	l.waitFor(t, 100, "B")
	if status, text := fetch("http://" + b.admin + "/readyz"); status != 200 {
		t.Errorf("readyz while etcd is away: %d %s, want 200", status, text)
	}
	// Who follows by a plain Watch has its table too, and can't know that it is old.
	if told := plain.told(); len(told) > 0 {
		t.Errorf("the fault does not bite: the plain Watch was told %v", told)
	}
	s.Restart()
	proctest.Eventually(t, "it is fresh again", func() bool { return b.metric("muster_store_stale") == "0" })
	_, addrC := app(t, "C")
	put(t, s, "/services/web/c", addrC)
	l.waitFor(t, 20, "B", "C")
	l.faultless(t)
}

// A balancer starts while etcd is away (W13) and serves what it knew; with a
// damaged snapshot, what it knew before that (W14). One without a snapshot can
// only say 503.
func TestBalancerStartsWithoutEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addrA := app(t, "A")
	_, addrB := app(t, "B")
	state, store := t.TempDir(), etcdURL(s.Addr())
	for i, addr := range []string{addrA, addrB} {
		put(t, s, fmt.Sprintf("/services/web/%d", i), addr)
		b := balance(t, store, "-state", state)
		b.serves(t, string("AB"[i]))
		b.Signal(syscall.SIGTERM)
		b.Wait()
	}
	s.Kill()
	without := balance(t, store, "-state", t.TempDir())
	without.WaitFor("store is away")
	if status, _ := fetch("http://" + without.addr + "/"); status != 503 {
		t.Errorf("without a snapshot: %d, want 503", status)
	}

	b := balance(t, store, "-state", state)
	b.WaitFor("beginning with the snapshot on the disk")
	b.serves(t, "A")
	b.serves(t, "B")
	if status, text := fetch("http://" + b.admin + "/readyz"); status != 200 {
		t.Errorf("readyz: %d %s, want 200", status, text)
	}
	if got := b.metric("muster_store_loaded_from_disk"); got != "1" {
		t.Errorf("muster_store_loaded_from_disk is %q, want 1", got)
	}
	s.Restart()
	_, addrC := app(t, "C")
	put(t, s, "/services/web/2", addrC)
	b.serves(t, "C")
	if got := b.metric("muster_store_loaded_from_disk"); got != "0" {
		t.Errorf("muster_store_loaded_from_disk is %q after etcd came back, want 0", got)
	}
	b.Signal(syscall.SIGKILL)
	b.Wait()

	s.Kill()
	files, err := filepath.Glob(filepath.Join(state, "snapshot-*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("snapshots: %q, %v; want the newest and the one before", files, err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file, ".1") {
			if err := os.Truncate(file, 100); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := balance(t, store, "-state", state)
	again.WaitFor("snapshot on the disk is not used")
	again.serves(t, "A")
}

// A balancer that starts from the disk exposes nobody who was not exposed
// before, though there is one service only.
func TestDiskExposesNobodyNew(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	_, addr := app(t, "A")
	state, store := t.TempDir(), etcdURL(s.Addr())
	put(t, s, "/services/web/1", addr)
	b := balance(t, store, "-state", state)
	b.serves(t, "A")
	b.Signal(syscall.SIGTERM)
	b.Wait()
	s.Kill()
	if err := os.Remove(filepath.Join(state, "exposed.json")); err != nil {
		t.Fatal(err)
	}
	b = balance(t, store, "-state", state)
	b.WaitFor("beginning with the snapshot on the disk")
	b.WaitFor("store is away")
	if status, _ := fetch("http://" + b.addr + "/"); status != 404 {
		t.Errorf("a service that only the disk knows and nothing exposes: %d, want 404", status)
	}
	s.Restart()
	b.serves(t, "A")
}

// The keys of a whole fleet expire at once (W15): what answers stays, and no
// request fails. A plain Watch has nothing left.
func TestMassExpiryUnderLoad(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	addrs := wide(t, "A", 200)
	lease := putAll(t, s, addrs)
	plain := watchPlainly(t, s, "/services/")
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	proctest.Eventually(t, "all are there", func() bool { return len(b.endpoints(t, "web")) == len(addrs) })
	l := startLoad(t, "http://"+b.addr+"/")
	l.waitFor(t, 10, "A")
	if _, err := s.Client().Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	b.WaitFor("many endpoints expired at once")
	l.waitFor(t, 100, "A")
	if plain.size() != 0 {
		t.Error("the fault does not bite: the plain Watch has endpoints left")
	}
	if got := b.metric("muster_protect_held_endpoints"); got != "200" || len(b.endpoints(t, "web")) != 200 {
		t.Errorf("%s held, %d endpoints; want 200 and 200", got, len(b.endpoints(t, "web")))
	}
	putAll(t, s, addrs)
	b.WaitFor("no expired endpoint is held any more")
	if n := strings.Count(b.Output(), "many endpoints expired at once"); n != 1 {
		t.Errorf("said %d times that many expired, want once", n)
	}
	l.waitFor(t, 20, "A")
	l.faultless(t)
}

// A service loses its last endpoint (W16). By expiry: it is served while it
// answers. By leaving: 503 at once, though the app still answers.
func TestLastEndpointExpiresOrLeaves(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	appA, addr := app(t, "A")
	side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 60))
	seen := record(t, s, "/services")
	lease := seen.is(t, key, addr).lease
	plain := watchPlainly(t, s, "/services/")
	b := balance(t, etcdURL(s.Addr()))
	b.serves(t, "A")
	l := startLoad(t, "http://"+b.addr+"/")
	side.Signal(syscall.SIGSTOP)
	if _, err := s.Client().Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, "it is held", func() bool { return b.metric("muster_protect_held_endpoints") == "1" })
	l.waitFor(t, 50, "A")
	if plain.has(key) {
		t.Error("the fault does not bite: the plain Watch has the key")
	}
	side.Signal(syscall.SIGCONT)
	seen.is(t, key, addr)
	l.faultless(t)

	side.Signal(syscall.SIGTERM)
	side.Wait()
	proctest.Eventually(t, "503", func() bool { status, _ := fetch("http://" + b.addr + "/"); return status == 503 })
	if status, _ := fetch("http://" + addr + "/"); status != 200 {
		t.Errorf("the app itself: %d, want 200", status)
	}
	_ = appA
}

// The connection of the balancer to etcd is cut, silent and compacted away in
// turn (W1, W4): what comes meanwhile is there after it heals. A plain Watch does
// not even notice the silence, and ends with the compaction.
func TestBalancerCutOffFromEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	_, addrA := app(t, "A")
	put(t, s, "/services/web/a", addrA)
	b := balance(t, etcdURL(r.Addr()))
	b.serves(t, "A")
	plain := watchPlainlyBy(t, plainClient(t, r.Addr()), "/services/")
	l := startLoad(t, "http://"+b.addr+"/")
	for i, fault := range []func(){r.Cut, r.Refuse, r.Blackhole, r.Refuse} {
		fault()
		name := fmt.Sprint("N", i)
		_, addr := app(t, name)
		put(t, s, "/services/web/"+name, addr)
		if i == 3 {
			put(t, s, "/elsewhere", "x")
			resp, err := s.Client().Get(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Client().Compact(t.Context(), resp.Header.Revision); err != nil {
				t.Fatal(err)
			}
		}
		if i > 0 {
			proctest.Eventually(t, "it notices", func() bool { return b.metric("muster_store_stale") == "1" })
			if told := plain.told(); len(told) > 0 || plain.has("/services/web/"+name) {
				t.Errorf("%s: the fault does not bite: the plain Watch was told %v", name, told)
			}
		}
		r.Heal()
		l.waitFor(t, 10, "A", name)
	}
	proctest.Eventually(t, "the plain Watch has lost its place to the compaction", func() bool {
		return slices.ContainsFunc(plain.told(), func(err error) bool { return errors.Is(err, rpctypes.ErrCompacted) })
	})
	if plain.has("/services/web/N3") {
		t.Error("the fault does not bite: the plain Watch has what came before the compaction")
	}
	l.faultless(t)
}
