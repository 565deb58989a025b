package sidekick_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends/etcd"
	"muster/sidekick"
)

// A grouped is a group that runs.
type grouped struct {
	*sidekick.Group
	lease *etcd.Lease
	log   *logBuffer
	stop  context.CancelFunc
	done  chan error
}

// group runs one that announces apps.
func (l *lab) group(keep bool, file string, apps ...sidekick.Config) *grouped {
	l.Helper()
	g := &grouped{log: new(logBuffer), done: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(g.log, nil))
	store, err := etcd.Open("etcd://"+l.etcd.Addr(), log)
	if err != nil {
		l.Fatal(err)
	}
	g.lease = store.Lease(15 * time.Second)
	g.lease.File = file
	if g.Group, err = sidekick.NewGroup(sidekick.GroupConfig{Lease: g.lease, Keep: keep, Log: log}); err != nil {
		l.Fatal(err)
	}
	g.set(l, apps...)
	var ctx context.Context
	ctx, g.stop = context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.done <- g.Run(ctx)
	}()
	l.Cleanup(func() {
		g.stop()
		<-ended
		store.Close()
		if l.Failed() {
			l.Logf("log:\n%s", g.log)
		}
	})
	return g
}

func (g *grouped) set(l *lab, apps ...sidekick.Config) {
	l.Helper()
	if err := g.Set(apps); err != nil {
		l.Fatal(err)
	}
}

// announced waits until all apps are, and says what each key's revision is.
func (g *grouped) announced(l *lab, n int) {
	l.Helper()
	poll(l, fmt.Sprintf("%d that are announced", n), func() bool {
		reports := g.Reports()
		return len(reports) == n && !slices.ContainsFunc(reports, func(r sidekick.Report) bool { return !r.Announced })
	})
}

// an app by its name, which always passes.
func named(name string) sidekick.Config {
	return sidekick.Config{
		Service: name, ID: "1", Addr: "10.0.0.5:80", Checks: []string{"exec:true"}, Host: "node7",
		Interval: 20 * time.Millisecond, Timeout: patience, Drain: -1, Source: "apps.toml:" + name,
	}
}

// A state is what a plain client finds: the value, lease and revisions of keys.
func (l *lab) state() map[string]string {
	l.Helper()
	resp, err := l.etcd.Client().Get(l.Context(), "/services", clientv3.WithPrefix())
	if err != nil {
		l.Fatal(err)
	}
	state := make(map[string]string)
	for _, kv := range resp.Kvs {
		state[string(kv.Key)] = fmt.Sprintf("created %d modified %d lease %x", kv.CreateRevision, kv.ModRevision, kv.Lease)
	}
	return state
}

func TestAGroupAnnouncesUnderOneLease(t *testing.T) {
	l := newLab(t)
	g := l.group(false, "", named("a"), named("b"), named("c"))
	g.announced(l, 3)
	state := l.state()
	if len(state) != 6 {
		t.Fatalf("got %v: want two keys for each of three", state)
	}
	for key, s := range state {
		if !strings.HasSuffix(s, fmt.Sprintf(" lease %x", g.lease.ID())) {
			t.Errorf("%s: %s: want lease %x", key, s, g.lease.ID())
		}
	}
	if leases, err := l.etcd.Client().Leases(t.Context()); err != nil || len(leases.Leases) != 1 {
		t.Errorf("leases: %v, %v: want one", leases, err)
	}
	g.stop()
	if err := <-g.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := l.keys(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	if leases, err := l.etcd.Client().Leases(t.Context()); err != nil || len(leases.Leases) != 0 {
		t.Errorf("leases: %v, %v: want none", leases, err)
	}
}

// What is new is announced, what is missing withdrawn, what differs is put over,
// and what is as it was is not touched.
func TestAGroupTouchesOnlyWhatHasChanged(t *testing.T) {
	l := newLab(t)
	same, goes, differs := named("same"), named("goes"), named("differs")
	g := l.group(false, "", same, goes, differs)
	g.announced(l, 3)
	before := l.state()
	resp, err := l.etcd.Client().Get(t.Context(), "/services")
	if err != nil {
		t.Fatal(err)
	}
	l.watch(resp.Header.Revision + 1)

	same.Source, differs.Weight = "moved down a line", 7
	g.set(l, same, differs, named("new"))
	poll(t, "the new state", func() bool {
		after := l.state()
		return len(after) == 6 && after["/services/new/1"] != "" && after["/services.meta/differs/1"] != before["/services.meta/differs/1"]
	})
	g.announced(l, 3)
	var events []string
	for len(events) < 6 {
		lines, _, _ := l.next()
		events = append(events, lines...)
	}
	slices.Sort(events)
	for i, want := range []string{
		"delete /services.meta/goes/1", "delete /services/goes/1",
		`put /services.meta/differs/1 {"v":1,"addr":"10.0.0.5:80","weight":7,`,
		`put /services.meta/goes/1 {"v":1,"addr":"10.0.0.5:80","weight":100,`,
		"put /services.meta/new/1 ", "put /services/new/1 10.0.0.5:80",
	} {
		if !strings.HasPrefix(events[i], want) {
			t.Errorf("event %d: got %q: want %q", i, events[i], want)
		}
	}
	if !strings.Contains(events[3], `"state":"draining"`) {
		t.Errorf("what went was not draining: %q", events[3])
	}
	after := l.state()
	for _, key := range []string{"/services/same/1", "/services.meta/same/1", "/services/differs/1"} {
		if after[key] != before[key] {
			t.Errorf("%s: from %s to %s: want it untouched", key, before[key], after[key])
		}
	}
	if started := "started"; !strings.Contains(events[2], started) {
		t.Errorf("no %s in %s", started, events[2])
	}
}

// One that is taken out and put back while it still drains is announced again
// when it has left: the one that goes takes nothing of the new one's away.
func TestAGroupPutsBackWhatStillDrains(t *testing.T) {
	l := newLab(t)
	a := named("a")
	a.Drain = 2 * time.Second
	g := l.group(false, "", a, named("b"))
	g.announced(l, 2)
	g.set(l, named("b"))
	poll(t, "a drains", func() bool { return l.state()["/services/a/1"] == "" })
	g.set(l, a, named("b"))
	poll(t, "a is back", func() bool { return l.state()["/services/a/1"] != "" })
	g.announced(l, 2)
	if len(l.state()) != 4 {
		t.Errorf("got %v: want both keys of both", l.state())
	}
	if n := g.log.count("msg=left"); n != 1 {
		t.Errorf("%d have left: want one", n)
	}
}

func TestAGroupAnnouncesAgainAfterALostLease(t *testing.T) {
	l := newLab(t)
	g := l.group(false, "", named("a"), named("b"))
	g.announced(l, 2)
	old := g.lease.ID()
	if _, err := l.etcd.Client().Revoke(t.Context(), clientv3.LeaseID(old)); err != nil {
		t.Fatal(err)
	}
	poll(t, "all keys under a new lease", func() bool {
		state := l.state()
		if len(state) != 4 || g.lease.ID() == old {
			return false
		}
		for _, s := range state {
			if !strings.HasSuffix(s, fmt.Sprintf(" lease %x", g.lease.ID())) {
				return false
			}
		}
		return true
	})
	for _, r := range g.Reports() {
		if r.Counts.LeasesLost > 1 { // the repair of own keys may have been faster
			t.Errorf("%s: %d leases lost: want 1 at most", r.Service, r.Counts.LeasesLost)
		}
	}
}

// The next process takes up all of them, and what it does not want is taken back.
func TestAGroupIsKeptForTheNextProcess(t *testing.T) {
	l := newLab(t)
	file := filepath.Join(t.TempDir(), "lease")
	g := l.group(true, file, named("a"), named("b"))
	g.announced(l, 2)
	before := l.state()
	g.stop()
	if err := <-g.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	next := l.group(false, file, named("a"), named("b"), named("c"))
	next.announced(l, 3)
	after := l.state()
	for key, s := range before {
		if after[key] != s {
			t.Errorf("%s: from %s to %s: want it untouched", key, s, after[key])
		}
	}
	if len(after) != 6 {
		t.Errorf("got %v: want c's too", after)
	}
}

// One that fails does not hold the others up.
func TestAGroupTellsOfEach(t *testing.T) {
	l := newLab(t)
	bad := named("bad")
	bad.Checks, bad.StartPeriod = []string{"exec:false"}, -1
	beating := named("beating")
	beating.Checks = []string{"heartbeat:1h"}
	g := l.group(false, "", named("good"), bad, beating)
	srv := httptest.NewServer(g.Handler())
	t.Cleanup(srv.Close)
	ask := func(method, path string) (code int) {
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	poll(t, "the verdicts", func() bool {
		st := g.Status()
		return st.State == sidekick.Starting && !st.Announced && strings.HasPrefix(st.Reason, "1 of 3 announced; bad/1: check")
	})
	for path, want := range map[string]int{"/beat/nobody": 404, "/beat/beating/2": 404, "/beat/beating/1": 204, "/beat/beating": 204} {
		if got := ask(http.MethodPost, path); got != want {
			t.Errorf("POST %s: got %d: want %d", path, got, want)
		}
	}
	poll(t, "it is announced but for the one that fails", func() bool {
		st := g.Status()
		return st.State == sidekick.Failing && st.Announced && strings.HasPrefix(st.Reason, "2 of 3 announced; bad/1: check")
	})
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/status": 200, "/metrics": 200} {
		if got := ask(http.MethodGet, path); got != want {
			t.Errorf("GET %s: got %d: want %d", path, got, want)
		}
	}
	text := sidekick.Metrics(g.Reports()...)
	if n := strings.Count(text, "# TYPE muster_sidekick_announced gauge"); n != 1 {
		t.Errorf("the type of a metric stands there %d times: want once", n)
	}
	for _, want := range []string{
		`muster_sidekick_announced{service="bad",endpoint="1"} 0`,
		`muster_sidekick_announced{service="beating",endpoint="1"} 1`,
		`muster_sidekick_announced{service="good",endpoint="1"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	g.set(l, named("good"))
	poll(t, "the others are gone", func() bool { st := g.Status(); return st.String() == "up: 1 of 1 announced" && len(g.Reports()) == 1 })
}

// Who asks before the first sidekick has started does not hear that all are
// announced.
func TestAGroupIsNotReadyBeforeItRuns(t *testing.T) {
	l := newLab(t)
	store, err := etcd.Open("etcd://"+l.etcd.Addr(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	g, err := sidekick.NewGroup(sidekick.GroupConfig{Lease: store.Lease(15 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Set([]sidekick.Config{named("a"), named("b")}); err != nil {
		t.Fatal(err)
	}
	ready := httptest.NewRecorder()
	g.Handler().ServeHTTP(ready, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if got, want := ready.Body.String(), "not announced: 2 are not started yet\n"; ready.Code != http.StatusServiceUnavailable || got != want {
		t.Errorf("GET /readyz: got %d, %q: want 503, %q", ready.Code, got, want)
	}
}

func TestAGroupSaysAllThatIsWrong(t *testing.T) {
	l := newLab(t)
	g := l.group(false, "", named("a"))
	g.announced(l, 1)
	twice, bad := named("b"), named("c")
	twice.Source, bad.Checks = "apps.toml:9", []string{"ping:x"}
	err := g.Set([]sidekick.Config{named("b"), twice, bad})
	for _, want := range []string{"apps.toml:9: /services/b/1 is announced already, by apps.toml:b", `apps.toml:c: check "ping:x": want`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Set: got %v: want %q in it", err, want)
		}
	}
	if r := g.Reports(); len(r) != 1 || r[0].Service != "a" {
		t.Errorf("after what is wrong: got %+v: want a as before", r)
	}
	if _, err := sidekick.NewGroup(sidekick.GroupConfig{}); err == nil {
		t.Error("a group without a lease: got no error")
	}
}
