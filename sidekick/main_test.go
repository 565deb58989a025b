package sidekick_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"muster/backends/etcd"
	"muster/internal/etcdtest"
	"muster/sidekick"
)

// patience is how long a test waits for what has to come. It is long: the
// machine may be busy.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if addr := os.Getenv("SIDEKICK_TEST_APP"); addr != "" {
		serveApp(addr, os.Getenv("SIDEKICK_TEST_TERM"))
		return
	}
	goleak.VerifyTestMain(m)
}

// serveApp is the app in tests where it is a process: this test binary. It
// answers at addr, and asks onTerm before it ends by SIGTERM.
func serveApp(addr, onTerm string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	go func() {
		<-c
		if onTerm != "" {
			if resp, err := http.Get(onTerm); err == nil {
				resp.Body.Close()
			}
		}
		os.Exit(7)
	}()
	err := http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// appCommand is the app as a process, not started.
func appCommand(t *testing.T, addr, onTerm string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SIDEKICK_TEST_APP="+addr, "SIDEKICK_TEST_TERM="+onTerm)
	cmd.Stderr = os.Stderr
	return cmd
}

// A lab is an etcd with somebody who watches everything in it.
type lab struct {
	*testing.T
	etcd   *etcdtest.Server
	events clientv3.WatchChan
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{T: t, etcd: etcdtest.Start(t)}
	l.watch(0)
	return l
}

// watch sees what happens from revision on, or from now on.
func (l *lab) watch(revision int64) {
	l.Helper()
	l.events = l.etcd.Client().Watch(l.Context(), "/", clientv3.WithPrefix(), clientv3.WithRev(revision), clientv3.WithCreatedNotify())
	if r := <-l.events; !r.Created {
		l.Fatalf("watch: got %+v: want it to be created", r)
	}
}

// next is what the next revision did, a line for each key: "put KEY VALUE" or
// "delete KEY", sorted; times and machine names are cut.
func (l *lab) next() (lines []string, revision, lease int64) {
	l.Helper()
	select {
	case r, ok := <-l.events:
		if !ok || r.Err() != nil {
			l.Fatalf("watch: %v", r.Err())
		}
		for _, ev := range r.Events {
			if revision != 0 && revision != ev.Kv.ModRevision {
				l.Fatalf("the events of one Txn came in two revisions, or two Txns at once: %v", r.Events)
			}
			revision = ev.Kv.ModRevision
			if ev.Type == clientv3.EventTypeDelete {
				lines = append(lines, "delete "+string(ev.Kv.Key))
				continue
			}
			if lease != 0 && lease != ev.Kv.Lease {
				l.Errorf("keys under two leases: %v", r.Events)
			}
			lease = ev.Kv.Lease
			lines = append(lines, fmt.Sprintf("put %s %s", ev.Kv.Key, ev.Kv.Value))
		}
	case <-time.After(patience):
		l.Fatalf("no event in %v", patience)
	}
	slices.Sort(lines)
	return lines, revision, lease
}

// want takes the next revision and holds it against lines. A line that ends
// in "…" only has to begin like that.
func (l *lab) want(lines ...string) (revision, lease int64) {
	l.Helper()
	got, revision, lease := l.next()
	same := slices.EqualFunc(got, lines, func(got, want string) bool {
		begin, cut := strings.CutSuffix(want, "…")
		return got == want || cut && strings.HasPrefix(got, begin)
	})
	if !same {
		l.Fatalf("revision %d:\n got %q\nwant %q", revision, got, lines)
	}
	return revision, lease
}

// keys is how many keys are announced.
func (l *lab) keys() int64 {
	l.Helper()
	resp, err := l.etcd.Client().Get(l.Context(), "/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		l.Error(err)
		return -1
	}
	return resp.Count
}

// A running is a sidekick that runs.
type running struct {
	*sidekick.Sidekick
	lease *etcd.Lease
	log   *logBuffer
	stop  context.CancelFunc // as SIGTERM does
	done  chan error
}

// run starts a sidekick of the service web, with checks that come fast. Where
// the test does not wait for its end, it has to end after the test.
func (l *lab) run(c sidekick.Config) *running {
	l.Helper()
	r := &running{log: new(logBuffer), done: make(chan error, 1)}
	c.Log = slog.New(slog.NewTextHandler(r.log, nil))
	store, err := etcd.Open("etcd://"+l.etcd.Addr(), c.Log)
	if err != nil {
		l.Fatal(err)
	}
	r.lease = store.Lease(2 * time.Second)
	c.Lease, c.Service, c.Host = r.lease, "web", "node7"
	if c.Interval == 0 {
		c.Interval = 20 * time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = patience
	}
	if c.Drain == 0 {
		c.Drain = -1
	}
	r.Sidekick, err = sidekick.New(c)
	if err != nil {
		l.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- r.Run(ctx)
	}()
	l.Cleanup(func() {
		r.stop()
		<-ended
		store.Close()
		if l.Failed() {
			l.Logf("log:\n%s", r.log)
		}
	})
	return r
}

// wait returns what Run returned.
func (r *running) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		t.Fatalf("Run has not returned in %v", patience)
		return nil
	}
}

// A logBuffer is a log that tests can wait for.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) count(text string) int { return strings.Count(l.String(), text) }

func (l *logBuffer) waitFor(t testing.TB, text string) {
	t.Helper()
	poll(t, fmt.Sprintf("the log line %q", text), func() bool { return l.count(text) > 0 })
}

// poll is for what nobody tells of.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// unused is a lease that nothing is written under.
func (l *lab) unused() *etcd.Lease {
	l.Helper()
	store, err := etcd.Open("etcd://"+l.etcd.Addr(), nil)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { store.Close() })
	return store.Lease(0)
}
