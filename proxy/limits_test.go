package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/internal/testserver"
	"muster/proxy"
)

const hello = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// exchange sends a request on c and returns status and body.
func exchange(t testing.TB, c *testserver.Conn, request string) (int, string) {
	t.Helper()
	c.Send(request)
	res := c.Response(t, "GET")
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// An endpoint never has more requests than max_conns; the others wait, are seen
// to wait, and all are answered.
func TestQueue(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	plan.AccessLog = "json"
	plan.Services[0].MaxConns, plan.Services[0].Queue = 1, proxy.Queue{Size: 10, Timeout: time.Hour}
	log := new(lines)
	p, addr := start(t, proxy.Config{AccessLog: log}, plan)
	c := client(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if code, _ := get(t, c, "http://"+addr+"/hold"); code != 200 {
				t.Errorf("status %d, want 200", code)
			}
		})
	}
	for left := 4; left >= 0; left-- {
		a.WaitHeld(t, 1)
		await(t, fmt.Sprintf("%d that wait", left), func() bool { return p.Status().Services[0].Queued == int64(left) })
		if n := series(t, p)[`muster_queued{service="web"}`]; n != float64(left) {
			t.Errorf("muster_queued %v, want %d", n, left)
		}
		if n := upstream(p, "a").InFlight; n != 1 {
			t.Errorf("%d requests at the endpoint, want 1", n)
		}
		a.Release(t)
	}
	wg.Wait()
	if n := strings.Count(log.wait(t, 5), `"queued":`); n != 4 {
		t.Errorf("%d lines tell of waiting, want 4 of 5", n)
	}
}

// Who waits is served by an endpoint that comes, and by a greater limit.
func TestQueueHearsOfUpdates(t *testing.T) {
	for name, change := range map[string]func(plan *proxy.Plan, b *testserver.Origin) *proxy.Plan{
		"endpoint": func(plan *proxy.Plan, b *testserver.Origin) *proxy.Plan {
			return with(plan, append(plan.Services[0].Endpoints, of(b)...)...)
		},
		"limit": func(plan *proxy.Plan, _ *testserver.Origin) *proxy.Plan {
			next := with(plan, plan.Services[0].Endpoints...)
			next.Services[0].MaxConns = 2
			return next
		},
		"no limit": func(plan *proxy.Plan, _ *testserver.Origin) *proxy.Plan {
			next := with(plan, plan.Services[0].Endpoints...)
			next.Services[0].MaxConns = -1
			return next
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := testserver.New(t, "a"), testserver.New(t, "b")
			plan := sole(of(a)...)
			plan.Services[0].MaxConns, plan.Services[0].Queue = 1, proxy.Queue{Size: 1, Timeout: time.Hour}
			p, addr := start(t, proxy.Config{}, plan)
			c, c2 := testserver.Dial(t, addr), testserver.Dial(t, addr)
			c.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
			a.WaitHeld(t, 1)
			c2.Send(hello)
			await(t, "one that waits", func() bool { return p.Status().Services[0].Queued == 1 })
			p.Update(change(plan, b))
			if res := c2.Response(t, "GET"); res.StatusCode != 200 {
				t.Errorf("status %d, want 200", res.StatusCode)
			}
			a.Release(t)
		})
	}
}

// A proxy that ends cuts off who waits.
func TestQueueEnds(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	plan.Services[0].MaxConns, plan.Services[0].Queue = 1, proxy.Queue{Size: 1, Timeout: time.Hour}
	plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0"}}
	p := proxy.New(proxy.Config{Drain: -1})
	p.Update(plan)
	if err := p.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	addr := p.Addrs()[0]
	go func() { done <- p.Run(ctx) }()
	c, c2 := testserver.Dial(t, addr), testserver.Dial(t, addr)
	c.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	a.WaitHeld(t, 1)
	c2.Send(hello)
	await(t, "one that waits", func() bool { return p.Status().Services[0].Queued == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got, _ := c2.Rest(); got != "" {
		t.Errorf("who waited got %q, want nothing", got)
	}
	if n := p.Status().Services[0].Queued; n != 0 {
		t.Errorf("%d wait, want none", n)
	}
}

// Connections of a client are counted until they have ended, and those that are
// too many are turned away, with a reason as long as few of them wait for it.
func TestPerClient(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0", Limits: proxy.Limits{PerClient: 1}}}
	p, addr := start(t, proxy.Config{}, plan)
	connections := fmt.Sprintf("muster_connections{listener=%q}", addr)
	turned := fmt.Sprintf("muster_turned_away_total{listener=%q}", addr)
	c := testserver.Dial(t, addr)
	if code, body := exchange(t, c, hello); code != 200 || body != "a" {
		t.Fatalf("the first: status %d, %q", code, body)
	}
	c2 := testserver.Dial(t, addr)
	c2.Send(hello)
	if res := c2.Response(t, "GET"); res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("the second: status %d, %v, want 503 and Retry-After", res.StatusCode, res.Header)
	}
	c2.Close()
	await(t, "end of the second", func() bool { return series(t, p)[connections] == 1 })

	var silent []*testserver.Conn
	for range 64 {
		silent = append(silent, testserver.Dial(t, addr))
	}
	await(t, "64 that say nothing", func() bool { return series(t, p)[turned] == 65 })
	if got, err := testserver.Dial(t, addr).Rest(); got != "" {
		t.Errorf("one more got %q, %v, want it closed", got, err)
	}
	for _, s := range silent {
		s.Close()
	}
	await(t, "end of all but the first", func() bool { return series(t, p)[connections] == 1 })
	c3 := testserver.Dial(t, addr)
	c3.Send(hello)
	if res := c3.Response(t, "GET"); res.StatusCode != 503 {
		t.Errorf("then: status %d, want 503 again", res.StatusCode)
	}
	c.Close()
	c3.Close()
	await(t, "end of all", func() bool { return series(t, p)[connections] == 0 })
	if code, _ := exchange(t, testserver.Dial(t, addr), hello); code != 200 {
		t.Errorf("when the first has ended: status %d, want 200", code)
	}
}

// The limit of connections changes while they stay open; what pauses is logged
// once.
func TestConnections(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0", Limits: proxy.Limits{Connections: 1}}}
	log := new(lines)
	p, addr := start(t, proxy.Config{Log: slog.New(slog.NewTextHandler(log, nil))}, plan)
	c, c2 := testserver.Dial(t, addr), testserver.Dial(t, addr)
	if code, _ := exchange(t, c, hello); code != 200 {
		t.Fatalf("status %d", code)
	}
	const paused = "accepting no more"
	await(t, "log", func() bool { return strings.Contains(log.String(), paused) })
	c2.Send(hello)
	// It is not served while the first is there.
	for range 3 {
		if code, _ := exchange(t, c, hello); code != 200 {
			t.Fatalf("status %d", code)
		}
	}
	if n := a.Count(); n != 4 {
		t.Errorf("the endpoint got %d requests, want the first connection's 4", n)
	}
	next := *plan
	next.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0", Limits: proxy.Limits{Connections: 3}}}
	p.Update(&next)
	if res := c2.Response(t, "GET"); res.StatusCode != 200 {
		t.Errorf("with a greater limit: status %d, want 200", res.StatusCode)
	}
	await(t, "log", func() bool { return strings.Contains(log.String(), "accepting again") })
	if n := strings.Count(log.String(), paused); n != 1 {
		t.Errorf("%d lines say that nobody is accepted, want 1:\n%s", n, log)
	}
}

// What a service or a listener has set holds from the next request on, on open
// connections too; what runs goes on.
func TestSettingsChange(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	log := new(lines)
	plan.AccessLog = "json"
	p, addr := start(t, proxy.Config{AccessLog: log, Drain: -1}, plan)
	running := testserver.Dial(t, addr)
	running.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	a.WaitHeld(t, 1)

	const post = "POST / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.7\r\nContent-Length: 5\r\n\r\nhello"
	c := testserver.Dial(t, addr)
	if code, _ := exchange(t, c, post); code != 200 {
		t.Fatalf("status %d, want 200", code)
	}
	if line := log.wait(t, 1); !strings.Contains(line, `"client":"127.0.0.1"`) {
		t.Errorf("a stranger's line %s", line)
	}
	next := *plan
	next.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0", Limits: proxy.Limits{Target: 2}, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	p.Update(&next)
	await(t, "settings", func() bool { return p.Status().Settings != nil })
	if code, _ := exchange(t, c, post); code != 200 {
		t.Fatalf("status %d, want 200", code)
	}
	if line := log.wait(t, 2); !strings.Contains(line, `"client":"192.0.2.7","peer":"127.0.0.1"`) {
		t.Errorf("trusted: lines %s, want the client it tells of", line)
	}
	if code, _ := exchange(t, c, "GET /abc HTTP/1.1\r\nHost: x\r\n\r\n"); code != 414 {
		t.Errorf("limits.target: status %d on the open connection, want 414", code)
	}

	c = testserver.Dial(t, addr)
	if code, _ := exchange(t, c, post); code != 200 {
		t.Fatalf("status %d, want 200", code)
	}
	last := with(&next, plan.Services[0].Endpoints...)
	last.Services[0].Limits.Body = 4
	p.Update(last)
	if code, _ := exchange(t, c, post); code != 413 {
		t.Errorf("limits.body: status %d on the open connection, want 413", code)
	}
	a.Release(t)
	if code := running.Response(t, "GET").StatusCode; code != 200 {
		t.Errorf("the request that ran all the time: status %d, want 200", code)
	}
}

// What is set is seen, with its source.
func TestSettingsAreSeen(t *testing.T) {
	plan := sole()
	web := plan.Services[0]
	web.Timeout.Connect, web.Limits.Body, web.Host = 2*time.Second, -1, proxy.EndpointHost
	web.Sources = map[string]string{"timeout.connect": "muster.toml:3", "limits.body": "muster.toml:4", "host": "muster.toml:5"}
	plan.Listeners = []proxy.Listener{{
		Bind: "127.0.0.1:0", Source: "muster.toml:1", Limits: proxy.Limits{Head: 1024}, Drop: []string{}, Dots: true, Trace: true, Via: "edge1",
	}}
	p, addr := start(t, proxy.Config{}, plan)
	st := p.Status()
	services := map[string]proxy.Setting{"timeout.connect": {"2s", "muster.toml:3"}, "limits.body": {"off", "muster.toml:4"}, "host": {"endpoint", "muster.toml:5"}}
	if d := cmp.Diff(services, st.Services[0].Settings); d != "" {
		t.Errorf("of the service: (-want +got)\n%s", d)
	}
	listeners := map[string]map[string]proxy.Setting{addr: {
		"limits.head": {"1024", "muster.toml:1"}, "headers.drop": {"", "muster.toml:1"}, "path.dots": {"pass", "muster.toml:1"},
		"methods.trace": {"true", "muster.toml:1"}, "via": {"edge1", "muster.toml:1"},
	}}
	if d := cmp.Diff(listeners, st.Settings); d != "" {
		t.Errorf("of the listener: (-want +got)\n%s", d)
	}
}
