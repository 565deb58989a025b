package main_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// TestWholePath is the main job with real processes: etcd, two HTTP backends,
// two sidekicks and the balancer, under an open-loop load in which no request
// may fail, whatever happens to a backend or a sidekick.
func TestWholePath(t *testing.T) {
	etcd := etcdtest.Start(t)
	store := "etcd://" + etcd.Addr()
	muster := proctest.Build(t, "muster/cmd/muster")

	backend := func(name, addr string) *proctest.Proc {
		p := proctest.Start(t, "backend "+name, nil, muster, "echo", "-name", name, "-listen", addr)
		p.WaitFor(addr)
		return p
	}
	announce := func(addr string) *proctest.Proc {
		return proctest.Start(t, "sidekick "+addr, nil, muster, "sidekick", "web", "-addr", addr, "-store", store,
			"-health", "http:/healthz", "-ttl", "15s", "-interval", "100ms", "-fall", "2", "-drain", "1s")
	}
	addrA := proctest.FreeAddr(t)
	a := backend("A", addrA)
	addrB := proctest.FreeAddr(t)
	backend("B", addrB)
	announce(addrA)
	sidekickB := announce(addrB)
	balancer := proctest.Start(t, "balancer", nil, muster, "proxy", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-store", store)
	listen := balancer.Value("msg=listening", "addr")
	adminAddr := balancer.Value(`msg="admin listening"`, "addr")
	keys := follow(t, etcd.Client())
	keys.wait(t, "/services/web/"+addrA, true)
	keys.wait(t, "/services/web/"+addrB, true)
	proctest.Eventually(t, "readyz 200", func() bool { return status("http://"+adminAddr+"/readyz") == 200 })

	load := startLoad(t, "http://"+listen+"/", 200)
	load.waitFor(t, 50, "A", "B")

	// kill -9 of a backend: its sidekick withdraws it, and no request fails.
	a.Signal(syscall.SIGKILL)
	a.Wait()
	keys.wait(t, "/services/web/"+addrA, false)
	load.waitFor(t, 50, "B")

	// It comes back at its address, and so does the traffic.
	backend("A", addrA)
	load.waitFor(t, 50, "A", "B")

	// TERM of a sidekick: the traffic leaves its backend, which still runs.
	sidekickB.Signal(syscall.SIGTERM)
	if code := sidekickB.Wait(); code != 0 {
		t.Errorf("the sidekick that was told to leave ended with %d, want 0", code)
	}
	keys.wait(t, "/services/web/"+addrB, false)
	load.settle(t, 50)
	if got := load.waitFor(t, 100, "A"); got["B"] > 0 {
		t.Errorf("%d requests went to a backend whose sidekick has left: %v", got["B"], got)
	}

	// A third one is announced by a plain put: no metadata, no lease.
	addrC := proctest.FreeAddr(t)
	backend("C", addrC)
	if _, err := etcd.Client().Put(t.Context(), "/services/web/c", addrC); err != nil {
		t.Fatal(err)
	}
	load.waitFor(t, 50, "A", "C")

	total, failures := load.stop()
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed, want none: %s", len(failures), total, strings.Join(failures[:min(5, len(failures))], "; "))
	}
	t.Logf("%d requests, %d failed", total, len(failures))

	balancer.Signal(syscall.SIGTERM)
	if code := balancer.Wait(); code != 0 {
		t.Errorf("the balancer ended with %d, want 0", code)
	}
}

func status(url string) int {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// keys follows what is announced, as etcd's own client sees it.
type keys struct {
	mu   sync.Mutex
	have map[string]bool
}

func follow(t *testing.T, client *clientv3.Client) *keys {
	k := &keys{have: make(map[string]bool)}
	ctx, cancel := context.WithCancel(t.Context())
	events := client.Watch(ctx, "/services/", clientv3.WithPrefix(), clientv3.WithRev(1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for resp := range events {
			k.mu.Lock()
			for _, e := range resp.Events {
				k.have[string(e.Kv.Key)] = e.Type == clientv3.EventTypePut
			}
			k.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return k
}

func (k *keys) wait(t *testing.T, key string, there bool) {
	t.Helper()
	proctest.Eventually(t, fmt.Sprintf("%s there=%v", key, there), func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.have[key] == there
	})
}

// A load sends requests at a fixed rate, whether or not answers come, and
// counts who answered.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	answers  map[string]int
	failures []string
	total    int
}

func startLoad(t *testing.T, url string, perSecond int) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel, answers: make(map[string]int)}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	client := &http.Client{Transport: transport, Timeout: proctest.Patience}
	l.wg.Go(func() {
		defer transport.CloseIdleConnections()
		var requests sync.WaitGroup
		defer requests.Wait()
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
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
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) send(client *http.Client, url string) {
	who, failure := ask(client, url)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	if failure != "" {
		l.failures = append(l.failures, failure)
		return
	}
	l.answers[who]++
}

func ask(client *http.Client, url string) (who, failure string) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "body: " + err.Error()
	}
	who, _, _ = strings.Cut(string(body), " ")
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Sprintf("%s: %s %s", resp.Status, resp.Header.Get("Proxy-Status"), body)
	}
	return who, ""
}

func (l *load) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.answers)
}

// settle waits for n more answers, so that requests from before have ended.
func (l *load) settle(t *testing.T, n int) {
	t.Helper()
	sum := func(m map[string]int) (s int) {
		for _, v := range m {
			s += v
		}
		return s
	}
	start := sum(l.counts())
	proctest.Eventually(t, "more answers", func() bool { return sum(l.counts()) >= start+n })
}

// waitFor waits until each of names has answered n more times, and returns who
// answered how often meanwhile.
func (l *load) waitFor(t *testing.T, n int, names ...string) map[string]int {
	t.Helper()
	before := l.counts()
	proctest.Eventually(t, fmt.Sprintf("%d more answers of each of %s", n, names), func() bool {
		now := l.counts()
		return !slices.ContainsFunc(names, func(name string) bool { return now[name] < before[name]+n })
	})
	after := l.counts()
	for name, n := range before {
		after[name] -= n
	}
	return after
}

func (l *load) stop() (total int, failures []string) {
	l.cancel()
	l.wg.Wait()
	return l.total, l.failures
}
