// Package convergence measures how long it takes from a put in etcd to the
// first request that is routed by it, beside the time etcd itself takes to tell
// a watcher of the same put, in the same run:
//
//	go test ./bench/convergence -v -args -services 1,1000 -puts 300
//
// Times are printed, never asserted; what is asserted is that every put arrives
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
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

var (
	services = flag.String("services", "1,50", "numbers of services in the store, comma-separated")
	puts     = flag.Int("puts", 20, "puts to measure for each")
)

func TestMain(m *testing.M) {
	code := m.Run()
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

// converge moves the only endpoint of one service to and fro between two
// origins, and asks after each put until the other one answers.
func converge(t *testing.T, n int) {
	etcd := etcdtest.Start(t)
	client := etcd.Client()
	origins := []string{origin(t, "0"), origin(t, "1")}
	const key, host = "/services/moving/1", "moving.test"
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n - 1 {
		put(fmt.Sprintf("/services/still-%04d/1", i), origins[0])
		put(fmt.Sprintf("/services.meta/still-%04d/1", i), fmt.Sprintf(`{"routes":["still-%04d.test/"]}`, i))
	}
	put("/services.meta/moving/1", `{"routes":["`+host+`/"]}`)
	put(key, origins[1])

	listen := proctest.FreeAddr(t)
	balancer := proctest.Start(t, "balancer", nil, proctest.Build(t, "muster/cmd/muster"), "proxy",
		"-listen", listen, "-admin", "", "-state", t.TempDir(), "-store", "etcd://"+etcd.Addr(), "-config", noAccessLog(t))
	balancer.WaitFor("msg=listening")
	events := watch(t, client, key)
	conn := dial(t, listen, host)
	proctest.Eventually(t, "the first answer", func() bool {
		status, who := conn.ask(t)
		return status == http.StatusOK && who == "1"
	})

	var etcdTimes, routedTimes []time.Duration
	requests := 0
	for i := range *puts {
		want := strconv.Itoa(i % 2)
		start := time.Now()
		go func() { _, _ = client.Put(context.WithoutCancel(t.Context()), key, origins[i%2]) }()
		for {
			requests++
			status, who := conn.ask(t)
			if status != http.StatusOK {
				t.Fatalf("put %d: %d %q", i, status, who)
			}
			if who == want {
				break
			}
			if time.Since(start) > proctest.Patience {
				t.Fatalf("put %d was never routed", i)
			}
		}
		routedTimes = append(routedTimes, time.Since(start))
		etcdTimes = append(etcdTimes, (<-events).Sub(start))
		time.Sleep(5 * time.Millisecond) // the store is quiet between two puts
	}
	if len(events) > 0 {
		t.Errorf("%d events more than puts", len(events))
	}
	t.Logf("%d services, %d puts, %d requests, none failed", n, *puts, requests)
	t.Logf("  etcd, put to watch event       p50 %s  p99 %s", quantile(etcdTimes, 0.5), quantile(etcdTimes, 0.99))
	t.Logf("  put to first routed request    p50 %s  p99 %s", quantile(routedTimes, 0.5), quantile(routedTimes, 0.99))
}

func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))].Round(10 * time.Microsecond)
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
