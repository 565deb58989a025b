package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// suspend stops processes as the host of a virtual machine does, which they can't
// notice: by the kernel's freezer or, where that is not to be had, by SIGSTOP.
// wake lets them go on.
func suspend(t *testing.T, procs ...*proctest.Proc) (wake func()) {
	t.Helper()
	dir, err := os.MkdirTemp("/sys/fs/cgroup/freezer", "muster-test-")
	if err != nil {
		t.Logf("no freezer, so SIGSTOP: %v", err)
		return stop(procs...)
	}
	set := func(file, text string) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		set("freezer.state", "THAWED")
		for _, p := range procs { // it has to be empty; one that has ended is in it no more
			_ = os.WriteFile("/sys/fs/cgroup/freezer/cgroup.procs", fmt.Append(nil, p.Pid()), 0o600)
		}
		proctest.Eventually(t, dir+" is gone", func() bool { return os.Remove(dir) == nil })
	})
	for _, p := range procs {
		set("cgroup.procs", fmt.Sprint(p.Pid()))
	}
	set("freezer.state", "FROZEN")
	proctest.Eventually(t, "all are frozen", func() bool {
		state, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
		return err == nil && strings.TrimSpace(string(state)) == "FROZEN"
	})
	return func() { set("freezer.state", "THAWED") }
}

func stop(procs ...*proctest.Proc) (wake func()) {
	for _, p := range procs {
		p.Signal(syscall.SIGSTOP)
	}
	return func() {
		for _, p := range procs {
			p.Signal(syscall.SIGCONT)
		}
	}
}

// The sidekick is suspended for longer than its TTL (A13), as by the move of a
// virtual machine, or stopped by somebody: its key goes, and is back when it goes
// on.
func TestSuspendedSidekickComesBack(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(*testing.T, ...*proctest.Proc) func(){
		"frozen":  suspend,
		"stopped": func(_ *testing.T, procs ...*proctest.Proc) func() { return stop(procs...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := etcdtest.Start(t)
			_, addr := app(t, "A")
			side := announced(sidekick(t, etcdURL(s.Addr()), "a", addr, 3))
			other := naive(t, 3, theirs, addr, s.Addr())
			seen := record(t, s, "/")
			seen.is(t, key, addr)
			wake := how(t, side, other)
			seen.is(t, key, "")
			seen.is(t, theirs, "")
			wake()
			seen.is(t, key, addr)
			other.WaitFor("naive: lost")
			seen.wants(t, theirs, 1, 1) // bites
		})
	}
}

// A machine that sleeps stops the clock that processes time by (Linux's
// CLOCK_MONOTONIC), so after a night the sidekick believes that its lease has
// just been renewed (A13). That is made here the other way around, as no machine
// can be put to sleep in a test: hardly any time passes, and etcd ends the lease
// as if a night had. The key is back as soon as the sidekick hears from etcd, long
// before it would renew the lease by its clock; with connections that outlived
// the night, and with such as are reset. The session renews by its clock.
func TestWokenSidekickGoesByEtcdAndNotByItsClock(t *testing.T) {
	t.Parallel()
	const ttl = 90 // so that a renewal comes every 30 s
	for name, broken := range map[string]bool{"connections that live": false, "connections that are reset": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := etcdtest.Start(t)
			r := etcdtest.NewRelay(t, s.Addr())
			_, addr := app(t, "A")
			side := announced(sidekick(t, etcdURL(r.Addr()), "a", addr, ttl))
			other := naive(t, ttl, theirs, addr, r.Addr())
			seen := record(t, s, "/")
			leases := []int64{seen.is(t, key, addr).lease, seen.is(t, theirs, addr).lease}
			// The own keys are watched by now if a foreign put is put right.
			put(t, s, key, "10.9.9.9:1")
			proctest.Eventually(t, "the put is put right", func() bool { p, _ := seen.count(key); return p == 3 })
			wake := suspend(t, side, other)
			for _, id := range leases {
				if _, err := s.Client().Revoke(t.Context(), clientv3.LeaseID(id)); err != nil {
					t.Fatal(err)
				}
			}
			if broken {
				r.Cut()
			}
			seen.is(t, key, "")
			seen.is(t, theirs, "")
			wake()
			back := seen.is(t, key, addr)
			if back.lease == leases[0] || back.lease == 0 {
				t.Errorf("it is back under lease %x, want another than %x", back.lease, leases[0])
			}
			seen.wants(t, key, 4, 1)
			if strings.Contains(other.Output(), "naive: lost") {
				t.Log("the session has noticed, too")
			}
			seen.wants(t, theirs, 1, 1) // bites
		})
	}
}
