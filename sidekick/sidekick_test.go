package sidekick_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/catalog"
	"muster/sidekick"
)

// An app is an HTTP server inside the test, whose health is switched.
type app struct {
	addr           string
	failing        atomic.Bool
	passes, failed atomic.Int64           // since it was switched
	hook           atomic.Pointer[func()] // called before each answer
}

func newApp(t *testing.T, failing bool) *app {
	a := new(app)
	a.before(func() {})
	a.failing.Store(failing)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Host != a.addr {
			t.Errorf("check asked for %s of %s: want /healthz of %s", r.URL.Path, r.Host, a.addr)
		}
		if a.failing.Load() {
			a.failed.Add(1)
			(*a.hook.Load())()
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		a.passes.Add(1)
		(*a.hook.Load())()
	}))
	t.Cleanup(srv.Close)
	a.addr = srv.Listener.Addr().String()
	return a
}

func (a *app) before(hook func()) { a.hook.Store(&hook) }

func (a *app) set(failing bool) {
	a.passes.Store(0)
	a.failed.Store(0)
	a.failing.Store(failing)
}

func (a *app) config() sidekick.Config {
	return sidekick.Config{Addr: a.addr, ID: "1", Checks: []string{"http:/healthz"}}
}

const plain, meta = "/services/web/1", "/services.meta/web/1"

func TestAnnouncesWhileTheCheckPasses(t *testing.T) {
	l := newLab(t)
	a := newApp(t, true)
	announcedEarly := func() {
		if a.passes.Load() == 2 && l.keys() != 0 {
			t.Error("announced after 1 pass: want rise, 3")
		}
		if a.passes.Load() == 3 && l.keys() != 0 {
			t.Error("announced after 2 passes: want rise, 3")
		}
	}
	a.before(announcedEarly)
	c := a.config()
	c.Rise, c.Fall = 3, 4
	c.Routes, c.Zone = []string{"example.com/"}, "a"
	r := l.run(c)
	poll(t, "failed checks", func() bool { return a.failed.Load() > 5 })
	if n := l.keys(); n != 0 {
		t.Fatalf("%d keys are announced while the check fails", n)
	}
	a.set(false)
	lines, _, lease := l.next()
	if len(lines) != 2 || lines[1] != "put "+plain+" "+a.addr || lease == 0 || lease != r.lease.ID() {
		t.Fatalf("got %q under lease %x: want both keys under lease %x", lines, lease, r.lease.ID())
	}
	text, _ := strings.CutPrefix(lines[0], "put "+meta+" ")
	m, err := catalog.ParseMetadata(text)
	if err != nil || m.Addr != a.addr || m.State != catalog.Up || m.Health == nil || m.Health.HTTP != "/healthz" ||
		m.Started == nil || m.Host != "node7" || m.Zone != "a" || m.Weight != 100 || len(m.Routes) != 1 {
		t.Errorf("metadata %s: got %+v, %v", text, m, err)
	}
	if st := r.Status(); st.State != sidekick.Up || st.Trouble != "" {
		t.Errorf("status: got %+v: want up", st)
	}

	a.before(func() {
		if a.failed.Load() <= 4 && a.failing.Load() && l.keys() != 2 {
			t.Errorf("withdrawn before %d failures: want fall, 4", a.failed.Load())
		}
	})
	poll(t, "the announcement in the status", func() bool { return r.Status().Announced })
	a.set(true)
	l.want("delete "+meta, "delete "+plain)
	if n := a.failed.Load(); n < 4 {
		t.Errorf("withdrawn after %d failures: want fall, 4", n)
	}
	poll(t, "the status failing", func() bool { return !r.Status().Announced })
	if st := r.Status(); st.State != sidekick.Failing || !strings.Contains(st.Reason, "got status 503") {
		t.Errorf("status: got %+v: want failing, with the reason", st)
	}

	a.before(announcedEarly)
	a.set(false)
	if _, again := l.want("put "+meta+" …", "put "+plain+" "+a.addr); again != lease {
		t.Errorf("announced again under lease %x: want %x, which is alive", again, lease)
	}
	poll(t, "the announcement in the status", func() bool { return r.Status().Announced })
	r.stop()
	if err := r.wait(t); err != nil {
		t.Errorf("Run: %v", err)
	}
	for line, want := range map[string]int{"msg=announced": 2, "level=WARN msg=withdrawn": 1, "got status 503": 1, "level=WARN": 1} {
		if n := r.log.count(line); n != want {
			t.Errorf("got %d lines with %q: want %d", n, line, want)
		}
	}
}

func TestWithdrawsWhenTheAppIsKilledOutside(t *testing.T) {
	l := newLab(t)
	addr := freeAddr(t)
	cmd := appCommand(t, addr, "")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.run(sidekick.Config{Addr: addr, ID: "1"})
	l.want("put "+meta+" …", "put "+plain+" "+addr)
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	l.want("delete "+meta, "delete "+plain)
}

func TestWithdrawsAtOnceWhenItsAppIsKilled(t *testing.T) {
	l := newLab(t)
	addr := freeAddr(t)
	r := l.run(sidekick.Config{Addr: addr, ID: "1", App: appCommand(t, addr, ""), Interval: time.Hour, Drain: time.Hour})
	_, lease := l.want("put "+meta+" …", "put "+plain+" "+addr)
	r.Signal(syscall.SIGKILL)
	l.want("delete "+meta, "delete "+plain) // with an hour to the next check
	exit, ok := errors.AsType[*exec.ExitError](r.wait(t))
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("Run: got %v: want the app's end by SIGKILL", exit)
	}
	l.wantNoLease(lease)
	if st := r.Status(); st.State != sidekick.Left || st.Announced {
		t.Errorf("status: got %+v: want left", st)
	}
}

func (l *lab) wantNoLease(id int64) {
	l.Helper()
	resp, err := l.etcd.Client().TimeToLive(l.Context(), clientv3.LeaseID(id))
	if err != nil || resp.TTL != -1 {
		l.Errorf("lease %x: got %+v, %v: want it to be revoked", id, resp, err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestLeavesInOrder(t *testing.T) {
	l := newLab(t)
	addr := freeAddr(t)
	var mu sync.Mutex
	var order []string
	step := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
	}
	const drain = 300 * time.Millisecond
	var left, terminated time.Time
	onTerm := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		terminated = time.Now()
		step("app gets SIGTERM")
		resp, err := l.etcd.Client().Get(t.Context(), "/services", clientv3.WithPrefix())
		if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Key) != meta || !strings.Contains(string(resp.Kvs[0].Value), `"state":"draining"`) {
			t.Errorf("when the app gets SIGTERM the store has %v, %v: want the metadata, draining", resp, err)
		}
	}))
	t.Cleanup(onTerm.Close)
	r := l.run(sidekick.Config{
		Addr: addr, ID: "1", App: appCommand(t, addr, onTerm.URL), Drain: drain,
		Notify: func(s sidekick.Status) {
			if s.State == sidekick.Draining && left.IsZero() {
				left = time.Now()
			}
			if s.State == sidekick.Left {
				step("left")
			}
		},
	})
	_, lease := l.want("put "+meta+" …", "put "+plain+" "+addr)

	r.stop()
	first, _ := l.want("delete "+plain, "put "+meta+` {"v":1,"addr":"`+addr+`"…`)
	last, _ := l.want("delete " + meta)
	exit, ok := errors.AsType[*exec.ExitError](r.wait(t))
	if !ok || exit.ExitCode() != 7 {
		t.Errorf("Run: got %v: want the app's exit code 7", exit)
	}
	if last != first+1 {
		t.Errorf("left with revisions %d and %d: want nothing between them, and nothing after", first, last)
	}
	if got := strings.Join(order, ", "); got != "app gets SIGTERM, left" {
		t.Errorf("order: got %s", got)
	}
	if took := terminated.Sub(left); took < drain {
		t.Errorf("the app got SIGTERM after %v: want the drain, %v", took, drain)
	}
	l.wantNoLease(lease)
}

func TestLeavesWithoutAWordIfNothingWasAnnounced(t *testing.T) {
	l := newLab(t)
	a := newApp(t, true)
	c := a.config()
	c.Drain = time.Hour
	r := l.run(c)
	poll(t, "a check", func() bool { return a.failed.Load() > 0 })
	r.stop()
	if err := r.wait(t); err != nil {
		t.Errorf("Run: %v", err)
	}
	resp, err := l.etcd.Client().Get(t.Context(), plain)
	if err != nil || resp.Header.Revision != 1 {
		t.Errorf("the store is at revision %d, %v: want 1, as nothing was written", resp.Header.Revision, err)
	}
}

func TestKillsAnAppThatDoesNotStop(t *testing.T) {
	l := newLab(t)
	c := exec.Command("sh", "-c", `trap "" TERM; while :; do sleep 0.01; done & trap "exit 5" TERM; while :; do sleep 0.01; done`)
	alive, hold, err := os.Pipe() // who of the app lives has the other end
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	c.ExtraFiles = []*os.File{hold}
	r := l.run(sidekick.Config{Addr: "127.0.0.1:1", ID: "1", Checks: []string{"none"}, App: c, StopTimeout: 50 * time.Millisecond})
	l.want("put "+meta+" …", "put "+plain+" …")
	hold.Close()
	r.stop()
	if err := r.wait(t); err == nil {
		t.Error("Run: got no error: want the app's")
	}
	// The child that ignores SIGTERM is in the group too.
	_ = alive.SetReadDeadline(time.Now().Add(patience))
	if _, err := alive.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("something of the app is left: %v", err)
	}
}

func TestAnnouncesAgainAfterALostLease(t *testing.T) {
	l := newLab(t)
	a := newApp(t, false)
	r := l.run(a.config())
	_, lease := l.want("put "+meta+" …", "put "+plain+" "+a.addr)
	if _, err := l.etcd.Client().Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
		t.Fatal(err)
	}
	l.want("delete "+meta, "delete "+plain)
	_, again := l.want("put "+meta+" …", "put "+plain+" "+a.addr)
	if again == lease || again == 0 {
		t.Errorf("announced again under lease %x: want a new one", again)
	}
	r.log.waitFor(t, `reason="lease lost"`)
}

func TestALostLeaseDoesNotAnnounceAFailingApp(t *testing.T) {
	l := newLab(t)
	a := newApp(t, false)
	r := l.run(a.config())
	_, lease := l.want("put "+meta+" …", "put "+plain+" "+a.addr)
	a.set(true)
	l.want("delete "+meta, "delete "+plain)
	if _, err := l.etcd.Client().Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
		t.Fatal(err)
	}
	poll(t, "a new lease", func() bool { id := r.lease.ID(); return id != 0 && id != lease })
	if _, err := l.etcd.Client().Put(t.Context(), "/mark", ""); err != nil {
		t.Fatal(err)
	}
	l.want("put /mark ") // nothing came between
}

func TestWaitsForAStoreThatIsAway(t *testing.T) {
	l := newLab(t)
	l.etcd.Kill()
	a := newApp(t, false)
	r := l.run(a.config())
	r.log.waitFor(t, "level=WARN")
	poll(t, "passing checks", func() bool { return a.passes.Load() > 10 })
	if st := r.Status(); st.State != sidekick.Up || st.Announced {
		t.Errorf("status: got %+v: want up, not announced", st)
	}
	l.etcd.Restart()
	r.log.waitFor(t, "msg=announced")
	l.watch(1)
	l.want("put "+meta+" …", "put "+plain+" "+a.addr)
	poll(t, "the end of the trouble", func() bool { return r.Status().Announced })
	for line, want := range map[string]int{"level=WARN": 1, "is renewed again": 1, "msg=announced": 1, "\n": 3} {
		if n := r.log.count(line); n != want {
			t.Errorf("got %d lines with %q: want %d", n, line, want)
		}
	}
}

func TestAChangeOfTheHealthIsLoggedWhileTheStoreIsAway(t *testing.T) {
	l := newLab(t)
	a := newApp(t, false)
	r := l.run(a.config())
	r.log.waitFor(t, "msg=announced")
	l.etcd.Kill()
	a.set(true)
	r.log.waitFor(t, "the store does not have it yet")
	want := `msg="the store does not have it yet" service=web endpoint=1 state=failing reason="check \"http:/healthz\": got status 503`
	if n := r.log.count(want); n != 1 {
		t.Errorf("got %d lines with %s: want 1", n, want)
	}
	a.set(false)
	r.log.waitFor(t, "state=up")
	if n := r.log.count("the store does not have it yet"); n != 2 {
		t.Errorf("got %d lines of 2 changes: want one each", n)
	}
	if c := r.Report().Counts; c.Ups != 2 || c.Failings != 1 {
		t.Errorf("got %+v: want 2 changes to up and 1 to failing", c)
	}
}

func TestARestartOfTheStoreIsNotSeen(t *testing.T) {
	l := newLab(t)
	a := newApp(t, false)
	r := l.run(a.config())
	revision, lease := l.want("put "+meta+" …", "put "+plain+" "+a.addr)
	r.log.waitFor(t, "msg=announced")
	l.etcd.Kill()
	r.log.waitFor(t, "is not renewed")
	l.etcd.Restart()
	r.log.waitFor(t, "is renewed again")
	if _, err := l.etcd.Client().Put(t.Context(), "/mark", ""); err != nil {
		t.Fatal(err)
	}
	l.watch(revision + 1)
	l.want("put /mark ") // nothing came between
	if id := r.lease.ID(); id != lease || l.keys() != 3 {
		t.Errorf("got lease %x and %d keys: want lease %x and both", id, l.keys(), lease)
	}
}

// The age of the lease tells that it is not renewed, long before it is gone.
func TestTheAgeOfTheLease(t *testing.T) {
	l := newLab(t)
	a := newApp(t, false)
	r := l.run(a.config())
	r.log.waitFor(t, "msg=announced")
	young := r.Report()
	if young.LeaseAgeS == nil || young.LeaseTTLS != 15 {
		t.Fatalf("report: got age %v, TTL %v: want some, 15", young.LeaseAgeS, young.LeaseTTLS)
	}
	l.etcd.Kill()
	killed := time.Now()
	r.log.waitFor(t, "lease is not renewed")
	poll(t, "an age of 1.5 s, where a renewal comes each 0.7 s", func() bool { return *r.Report().LeaseAgeS > 1.5 })
	l.etcd.Restart()
	r.log.waitFor(t, "lease is renewed again")
	if age := *r.Report().LeaseAgeS; age > time.Since(killed).Seconds() {
		t.Errorf("after etcd is back: got an age of %v s: want one since then", age)
	}
}

func TestLeavingDoesNotWaitForAStoreThatIsAway(t *testing.T) {
	l := newLab(t)
	addr := freeAddr(t)
	c := appCommand(t, addr, "")
	r := l.run(sidekick.Config{Addr: addr, ID: "1", App: c})
	l.want("put "+meta+" …", "put "+plain+" "+addr)
	l.etcd.Kill()
	r.stop()
	exit, ok := errors.AsType[*exec.ExitError](r.wait(t))
	if !ok || exit.ExitCode() != 7 {
		t.Errorf("Run: got %v: want the app's exit code 7, as it was told to stop", exit)
	}
	r.log.waitFor(t, "gone when the lease has run out")
}

func TestTakesNoKeyThatAnotherHolds(t *testing.T) {
	l := newLab(t)
	if _, err := l.etcd.Client().Put(t.Context(), plain, "10.0.0.9:1"); err != nil {
		t.Fatal(err)
	}
	l.want("put " + plain + " 10.0.0.9:1")
	a := newApp(t, false)
	r := l.run(a.config())
	r.log.waitFor(t, `holder="somebody without a lease, with value \"10.0.0.9:1\""`)
	if n := r.Report().Counts.Conflicts; n != 1 {
		t.Errorf("report: got %d conflicts: want 1", n)
	}
	if st := r.Status(); !strings.Contains(st.Trouble, "10.0.0.9:1") {
		t.Errorf("status: got %+v: want what holds the key", st)
	}
	if _, err := l.etcd.Client().Delete(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	l.want("delete " + plain)
	l.want("put "+meta+" …", "put "+plain+" "+a.addr)
	r.log.waitFor(t, "msg=announced")
	for line, want := range map[string]int{"another holds the key, waiting until it is free (-takeover insists)": 1, "written at last": 1} {
		if n := r.log.count(line); n != want {
			t.Errorf("got %d lines with %q: want %d", n, line, want)
		}
	}
}

func TestAnAppThatCannotStartIsAnError(t *testing.T) {
	s, err := sidekick.New(sidekick.Config{
		Service: "web", Addr: "127.0.0.1:1", Lease: newLab(t).unused(), App: exec.Command("/does/not/exist"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("Run: got %v: want an error that names the command", err)
	}
}
