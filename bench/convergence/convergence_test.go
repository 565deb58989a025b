// Package convergence measures how long the truth takes: from a put in etcd to
// the first request that is routed by it, from a delete to the last one, to a
// rendered file, from a death to the end of its entry; with few services and with
// 100,000 endpoints, and what that costs. Beside each stands what etcd itself
// needed to tell a watcher of the same put in the same run.
//
//	make bench-convergence
//	go test ./bench/convergence -v -args -services 1,1000 -puts 300 -endpoints 100000
//
// Times are printed, never asserted; what is asserted is that everything arrives
// and that no request fails on the way.
package convergence

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

var (
	services  = flag.String("services", "1,50", "numbers of services in the store, comma-separated")
	puts      = flag.Int("puts", 20, "puts to measure for each")
	endpoints = flag.Int("endpoints", 2000, "endpoints in the store of TestScale")
	rate      = flag.Int("rate", 200, "changes a second to others")
	churnFor  = flag.Duration("churn", 2*time.Second, "how long they go on")
	flood     = flag.Int("flood", 1000, "puts that come within two seconds")

	renderKeys = flag.Int("keys", 1000, "keys in the store of TestRender")
	idle       = flag.Duration("idle", 2*time.Second, "how long an idle sidekick is watched")
	kills      = flag.Int("kills", 1, "sidekicks to kill")
)

func TestMain(m *testing.M) {
	code := m.Run()
	printReport()
	proctest.Clean()
	os.Exit(code)
}

func TestConvergence(t *testing.T) {
	for text := range strings.SplitSeq(*services, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			t.Fatalf("-services %q: want counts such as 1,1000", *services)
		}
		t.Run(fmt.Sprintf("services=%d", n), func(t *testing.T) { converge(t, n) })
	}
}

// converge has n services in the store, one of which moves.
func converge(t *testing.T, n int) {
	etcd := etcdtest.Start(t)
	client := etcd.Client()
	still := origin(t, "still")
	for i := range n - 1 {
		put(t, client, fmt.Sprintf("/services/still-%04d/1", i), still)
		put(t, client, fmt.Sprintf("/services.meta/still-%04d/1", i), fmt.Sprintf(`{"routes":["still-%04d.test/"]}`, i))
	}
	m := newMoving(t, client)
	b := startBalancer(t, etcd.Addr())
	c := dial(t, b.listen, movingHost)
	proctest.Eventually(t, "the first answer", func() bool { status, who := c.ask(t); return status == http.StatusOK && who == "1" })
	b.waitFor(t, n, n)

	got := m.measure(t, c, *puts)
	tell(row{"T1", fmt.Sprintf("%d services: put to first routed request", n), got.routed.String(), got.etcd.String(), "p50 3ms p99 15ms", got.routed.within(3*time.Millisecond, 15*time.Millisecond)})
	t.Logf("%d services, %d puts, %d requests, none failed", n, *puts, got.requests)

	gone := m.withdraw(t, c, max(1, *puts/4))
	tell(row{"T4", fmt.Sprintf("%d services: delete to last request routed there", n), gone.routed.String(), gone.etcd.String(), "p50 3ms p99 15ms", gone.routed.within(3*time.Millisecond, 15*time.Millisecond)})
}

func put(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// A moving is a service of one endpoint, which moves to and fro between two
// origins that say who they are.
type moving struct {
	client  *clientv3.Client
	origins [2]string
	at      int // the origin that is announced
	events  <-chan time.Time
}

const movingKey, movingHost = "/services/moving/1", "moving.test"

func newMoving(t *testing.T, client *clientv3.Client) *moving {
	m := &moving{client: client, origins: [2]string{origin(t, "0"), origin(t, "1")}, at: 1}
	put(t, client, "/services.meta/moving/1", `{"routes":["`+movingHost+`/"]}`)
	put(t, client, movingKey, m.origins[1])
	m.events = watch(t, client, movingKey)
	return m
}

// A timing is what several puts took.
type timing struct {
	routed, etcd sample // put to first routed request, and to etcd's own event
	requests     int
}

// measure moves the endpoint n times, and asks after each put until the other
// origin answers. No request may fail.
func (m *moving) measure(t *testing.T, c *conn, n int) (got timing) {
	t.Helper()
	for range n {
		m.at = 1 - m.at
		m.round(t, &got, func() { _, _ = m.client.Put(context.WithoutCancel(t.Context()), movingKey, m.origins[m.at]) }, func() bool {
			status, who := c.ask(t)
			if status != http.StatusOK {
				t.Fatalf("%d %q while the endpoint moved", status, who)
			}
			return who == strconv.Itoa(m.at)
		})
	}
	if len(m.events) > 0 {
		t.Errorf("%d events more than puts", len(m.events))
	}
	return got
}

// withdraw deletes the endpoint n times, its metadata staying behind, and asks after each delete until nobody
// is asked any more; in between it comes back.
func (m *moving) withdraw(t *testing.T, c *conn, n int) (got timing) {
	t.Helper()
	var back timing
	for range n {
		m.round(t, &got, func() { _, _ = m.client.Delete(context.WithoutCancel(t.Context()), movingKey) }, func() bool {
			status, who := c.ask(t)
			if status != http.StatusOK && status != http.StatusServiceUnavailable {
				t.Fatalf("%d %q while the endpoint left", status, who)
			}
			return status == http.StatusServiceUnavailable
		})
		m.round(t, &back, func() { _, _ = m.client.Put(context.WithoutCancel(t.Context()), movingKey, m.origins[m.at]) }, func() bool {
			status, _ := c.ask(t)
			return status == http.StatusOK
		})
	}
	return got
}

// round does one thing and asks until it has arrived.
func (m *moving) round(t *testing.T, got *timing, do func(), arrived func() bool) {
	t.Helper()
	start := time.Now()
	go do()
	for got.requests++; !arrived(); got.requests++ {
		if time.Since(start) > proctest.Patience {
			t.Fatal("a change was never routed")
		}
	}
	got.routed = append(got.routed, time.Since(start))
	got.etcd = append(got.etcd, (<-m.events).Sub(start))
	time.Sleep(10 * time.Millisecond) // the store is quiet between two
}

func noAccessLog(t *testing.T) string {
	path := t.TempDir() + "/muster.toml"
	if err := os.WriteFile(path, []byte("[log]\naccess = \"off\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// origin serves its name.
func origin(t *testing.T, name string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return l.Addr().String()
}

// watch is etcd's own client, told of every put to key.
func watch(t *testing.T, client *clientv3.Client, key string) <-chan time.Time {
	ctx, cancel := context.WithCancel(t.Context())
	events, times := client.Watch(ctx, key, clientv3.WithCreatedNotify()), make(chan time.Time, 100)
	<-events
	done := make(chan struct{})
	go func() {
		defer close(done)
		for resp := range events {
			now := time.Now()
			for range resp.Events {
				times <- now
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return times
}

// A conn asks over one keep-alive connection, so that asking costs little.
type conn struct {
	net.Conn
	read    *bufio.Reader
	request string
}

func dial(t *testing.T, addr, host string) *conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &conn{c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"}
}

// ask returns the status and who answered.
func (c *conn) ask(t *testing.T) (status int, who string) {
	t.Helper()
	if _, err := io.WriteString(c, c.request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.read, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
