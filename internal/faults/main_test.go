package faults

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

func TestMain(m *testing.M) {
	if endpoints := os.Getenv("NAIVE_ANNOUNCER"); endpoints != "" {
		naiveAnnouncer(endpoints)
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "12") // they wait far more than they work
	code := m.Run()
	proctest.Clean()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// naiveAnnouncer is the process that our sidekick is compared with: it puts a
// key under a session of etcd's own client, and says so; and that it has lost
// the session, which is all that anybody is told.
func naiveAnnouncer(endpoints string) {
	ttl, _ := strconv.Atoi(os.Getenv("NAIVE_TTL"))
	c, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(endpoints, ","), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	var session *concurrency.Session
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var grant *clientv3.LeaseGrantResponse
		if grant, err = c.Grant(ctx, int64(ttl)); err == nil {
			session, err = concurrency.NewSession(c, concurrency.WithLease(grant.ID))
		}
	}
	if err == nil {
		_, err = c.Put(context.Background(), os.Getenv("NAIVE_KEY"), os.Getenv("NAIVE_VALUE"), clientv3.WithLease(session.Lease()))
	}
	if err != nil {
		fmt.Println("naive:", err)
		os.Exit(1)
	}
	fmt.Println("naive: announced")
	<-session.Done()
	fmt.Println("naive: lost")
	select {}
}

// naive starts one.
func naive(t *testing.T, ttl int, key, value string, endpoints ...string) *proctest.Proc {
	t.Helper()
	p := proctest.Start(t, "naive "+key, []string{
		"NAIVE_ANNOUNCER=" + strings.Join(endpoints, ","), "NAIVE_TTL=" + strconv.Itoa(ttl), "NAIVE_KEY=" + key, "NAIVE_VALUE=" + value,
	}, os.Args[0])
	p.WaitFor("naive: announced")
	return p
}

func muster(t *testing.T, name string, args ...string) *proctest.Proc {
	t.Helper()
	return proctest.Start(t, name, nil, proctest.Build(t, "muster/cmd/muster"), args...)
}

// app starts something to announce.
func app(t *testing.T, name string) (p *proctest.Proc, addr string) {
	t.Helper()
	addr = proctest.FreeAddr(t)
	p = muster(t, "app "+name, "echo", "-name", name, "-listen", addr)
	p.WaitFor(addr)
	return p, addr
}

// sidekick starts a sidekick of service web with the ID id.
func sidekick(t *testing.T, store, id, addr string, ttl int, more ...string) *proctest.Proc {
	t.Helper()
	args := []string{"sidekick", "web", "-id", id, "-addr", addr, "-store", store, "-ttl", fmt.Sprintf("%ds", ttl), "-interval", "200ms", "-drain", "0s"}
	return muster(t, "sidekick "+id, append(args, more...)...)
}

// announced waits until it has announced.
func announced(p *proctest.Proc) *proctest.Proc {
	p.WaitFor("msg=announced")
	return p
}

// A balancer is a running "muster proxy".
type balancer struct {
	*proctest.Proc
	addr, admin string
}

func balance(t *testing.T, store string, more ...string) balancer {
	t.Helper()
	quiet := filepath.Join(t.TempDir(), "muster.toml")
	if err := os.WriteFile(quiet, []byte("[log]\naccess = \"off\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := muster(t, "balancer", append([]string{"proxy", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-store", store, "-config", quiet}, more...)...)
	return balancer{p, p.Value("msg=listening", "addr"), p.Value(`msg="admin listening"`, "addr")}
}

// metric is the value of one metric, as /metrics has it; "" if it is not there.
func (b balancer) metric(name string) string {
	_, text := fetch("http://" + b.admin + "/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// serves waits until who answers.
func (b balancer) serves(t *testing.T, who string) {
	t.Helper()
	proctest.Eventually(t, who+" answers", func() bool {
		status, text := fetch("http://" + b.addr + "/")
		return status == http.StatusOK && strings.HasPrefix(text, who+" ")
	})
}

func fetch(url string) (status int, text string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: proctest.Patience}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// A load sends requests at a fixed rate, whether or not answers come.
type load struct {
	stop func()

	mu       sync.Mutex
	answers  map[string]int // by who
	failures []string
}

const loadRate = 50 // requests a second

func startLoad(t *testing.T, url string) *load {
	l := &load{answers: make(map[string]int)}
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	client := &http.Client{Transport: transport, Timeout: proctest.Patience}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer transport.CloseIdleConnections()
		var requests sync.WaitGroup
		defer requests.Wait()
		tick := time.NewTicker(time.Second / loadRate)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				requests.Go(func() { l.send(client, url) })
			case <-ctx.Done():
				return
			}
		}
	})
	l.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(l.stop)
	return l
}

func (l *load) send(client *http.Client, url string) {
	failure, text := "", ""
	resp, err := client.Get(url)
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if text = string(body); resp.StatusCode != http.StatusOK {
			failure = resp.Status + ": " + text
		}
	}
	if err != nil {
		failure = err.Error()
	}
	who, _, _ := strings.Cut(text, " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	if failure != "" {
		l.failures = append(l.failures, failure)
		return
	}
	l.answers[who]++
}

// waitFor waits until each of names has answered n more times.
func (l *load) waitFor(t *testing.T, n int, names ...string) {
	t.Helper()
	count := func(name string) int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.answers[name]
	}
	for _, name := range names {
		before := count(name)
		proctest.Eventually(t, fmt.Sprintf("%d more answers of %s", n, name), func() bool { return count(name) >= before+n })
	}
}

// faultless ends the load and wants that no request failed.
func (l *load) faultless(t *testing.T) {
	t.Helper()
	l.stop()
	total := len(l.failures)
	for _, n := range l.answers {
		total += n
	}
	if len(l.failures) > 0 {
		t.Errorf("%d of %d requests failed, want none: %s", len(l.failures), total, strings.Join(l.failures[:min(3, len(l.failures))], "; "))
	}
	t.Logf("%d requests, %d failed", total, len(l.failures))
}

// history is what a plain watch has seen of some keys.
type history struct {
	mu     sync.Mutex
	events []event
	state  map[string]event
}

type event struct {
	key, value string
	deleted    bool
	lease      int64
	at         time.Time
}

// record watches prefix at one member from its first revision on.
func record(t *testing.T, s *etcdtest.Server, prefix string) *history {
	t.Helper()
	h := &history{state: make(map[string]event)}
	ctx, cancel := context.WithCancel(context.Background())
	watch := s.Client().Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1))
	var wg sync.WaitGroup
	wg.Go(func() {
		for r := range watch {
			h.mu.Lock()
			for _, e := range r.Events {
				ev := event{string(e.Kv.Key), string(e.Kv.Value), e.Type == clientv3.EventTypeDelete, e.Kv.Lease, time.Now()}
				h.events = append(h.events, ev)
				h.state[ev.key] = ev
			}
			h.mu.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return h
}

// count says how often key was put and deleted.
func (h *history) count(key string) (puts, deletes int) {
	for _, e := range h.of(key) {
		if e.deleted {
			deletes++
		} else {
			puts++
		}
	}
	return puts, deletes
}

// of are the events of key.
func (h *history) of(key string) []event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.events), func(e event) bool { return e.key != key })
}

// is waits until key has value; "" means that it was deleted.
func (h *history) is(t *testing.T, key, value string) event {
	t.Helper()
	var last event
	proctest.Eventually(t, fmt.Sprintf("%s is %q", key, value), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		last = h.state[key]
		return last.value == value && (value == "") == last.deleted
	})
	return last
}

// wants checks how often key was put and deleted.
func (h *history) wants(t *testing.T, key string, puts, deletes int) {
	t.Helper()
	if p, d := h.count(key); p != puts || d != deletes {
		t.Errorf("%s was put %d times and deleted %d times, want %d and %d", key, p, d, puts, deletes)
	}
}

func etcdURL(addrs ...string) string { return "etcd://" + strings.Join(addrs, ",") }

// put returns the revision of the put.
func put(t *testing.T, s *etcdtest.Server, key, value string, opts ...clientv3.OpOption) int64 {
	t.Helper()
	resp, err := s.Client().Put(t.Context(), key, value, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func del(t *testing.T, s *etcdtest.Server, key string) {
	t.Helper()
	if _, err := s.Client().Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}
