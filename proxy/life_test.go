package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/catalog"
	"muster/internal/testserver"
	"muster/proxy"
)

// with is plan with other endpoints.
func with(plan *proxy.Plan, es ...*catalog.Endpoint) *proxy.Plan {
	next := *plan
	web := *plan.Services[0]
	web.Endpoints = es
	next.Services = []*proxy.Service{&web}
	return &next
}

// upstream is the status of one endpoint, or nil.
func upstream(p *proxy.Proxy, id string) *proxy.UpstreamStatus {
	for _, s := range p.Status().Services {
		for _, u := range s.Upstreams {
			if u.ID == id {
				return &u
			}
		}
	}
	return nil
}

// An endpoint that comes back soon, as after a restart, finds its connections.
func TestEndpointComesBack(t *testing.T) {
	a, b := testserver.New(t, "a"), testserver.New(t, "b")
	plan := sole(of(a, b)...)
	p, addr := start(t, proxy.Config{}, plan)
	c := client(t)
	ask := func(n int) (byA int) {
		for range n {
			if _, body := get(t, c, "http://"+addr+"/"); body == "a" {
				byA++
			}
		}
		return byA
	}
	if ask(100) == 0 {
		t.Fatal("none of 100 answers is a's")
	}
	conns := a.Conns()
	for range 5 {
		p.Update(with(plan, of(b)...))
		if n := ask(20); n != 0 {
			t.Errorf("%d answers by a, which has left", n)
		}
		p.Update(with(plan, of(a, b)...))
		if ask(100) == 0 {
			t.Error("none of 100 answers is a's, which is back")
		}
	}
	if n := a.Conns(); n != conns {
		t.Errorf("%d connections to a, which was away 5 times for a moment, want the %d of before", n, conns)
	}
}

// A request runs to its end on an endpoint that has left, and no new one comes.
func TestEndpointLeaves(t *testing.T) {
	a, b := testserver.New(t, "a"), testserver.New(t, "b")
	plan := sole(of(a)...)
	p, addr := start(t, proxy.Config{}, plan)
	c := client(t)
	answer := make(chan string)
	go func() {
		_, body := get(t, c, "http://"+addr+"/hold")
		answer <- body
	}()
	a.WaitHeld(t, 1)
	p.Update(with(plan, of(b)...))
	if u := upstream(p, "a"); u == nil || u.State != "leaving" || u.InFlight != 1 {
		t.Errorf("a: %+v, want it leaving with one in flight", u)
	}
	for range 20 {
		if _, body := get(t, c, "http://"+addr+"/"); body != "b" {
			t.Fatalf("answer of %s, want b: a has left", body)
		}
	}
	a.Release(t)
	if body := <-answer; body != "a" {
		t.Errorf("the running request got %q, want a", body)
	}
	await(t, "end of a", func() bool { return upstream(p, "a") == nil })
	if a.Count() != 1 {
		t.Errorf("a got %d requests, want 1", a.Count())
	}
	// It comes back under the same address and serves again.
	p.Update(with(plan, of(a)...))
	if _, body := get(t, c, "http://"+addr+"/"); body != "a" {
		t.Errorf("answer of %s, want a again", body)
	}
}

func TestDrainingAndStarting(t *testing.T) {
	a, b := testserver.New(t, "a"), testserver.New(t, "b")
	plan := sole(of(a, b)...)
	p, addr := start(t, proxy.Config{}, plan)
	c := client(t)
	for _, state := range []catalog.State{catalog.Draining, catalog.Starting} {
		held := make(chan string)
		p.Update(with(plan, of(a)...))
		go func() {
			_, body := get(t, c, "http://"+addr+"/hold")
			held <- body
		}()
		a.WaitHeld(t, 1)
		es := of(a, b)
		es[0].State = state
		p.Update(with(plan, es...))
		before := a.Count()
		for range 20 {
			if _, body := get(t, c, "http://"+addr+"/"); body != "b" {
				t.Fatalf("%s: answer of %s, want b", state, body)
			}
		}
		if u := upstream(p, "a"); a.Count() != before || u.State != string(state) || u.InFlight != 1 {
			t.Errorf("%s: %+v, want one in flight, no new", state, u)
		}
		a.Release(t)
		if body := <-held; body != "a" {
			t.Errorf("%s: the running request got %q", state, body)
		}
	}
	es := of(a, b)
	es[0].State, es[1].State = catalog.Draining, catalog.Starting
	p.Update(with(plan, es...))
	if res, _ := do(t, c, "GET", "http://"+addr+"/", nil); res.StatusCode != 503 || proxyError(res) != "destination_unavailable" {
		t.Errorf("none is up: status %d, %s, want 503", res.StatusCode, proxyError(res))
	}
}

// Plans come and go under load, and no request fails; the counters stay.
func TestUpdateUnderLoad(t *testing.T) {
	origins := []*testserver.Origin{testserver.New(t, "a"), testserver.New(t, "b"), testserver.New(t, "c")}
	plan := sole(of(origins...)...)
	p, addr := start(t, proxy.Config{}, plan)
	var sent, failed atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 8 {
		c := client(t)
		wg.Go(func() {
			for ctx.Err() == nil {
				var res *http.Response
				var err error
				if i%2 == 0 {
					res, err = c.Get("http://" + addr + "/")
				} else {
					res, err = c.Post("http://"+addr+"/", "text/plain", strings.NewReader("x"))
				}
				sent.Add(1)
				if err != nil {
					failed.Add(1)
					t.Error(err)
					continue
				}
				if io.Copy(io.Discard, res.Body); res.StatusCode != 200 {
					failed.Add(1)
				}
				res.Body.Close()
			}
		})
	}
	for i := 0; i < 300 || sent.Load() < 2000; i++ {
		es := of(origins...)
		switch i % 5 {
		case 0:
			es = es[1:]
		case 4:
			es = es[i%3 : i%3+1] // one takes the place of all
		case 1:
			es[i%3].State = catalog.Draining
		case 2:
			es[2].Weight = 1 + i
		}
		next := with(plan, es...)
		if i%10 == 0 { // a service beside it comes and goes
			next.Services = append(next.Services, &proxy.Service{Name: "x", Endpoints: of(origins[0])})
			next.Routes = append([]proxy.Route{{Route: catalog.Route{Path: "/x"}, Service: "x"}}, next.Routes...)
		}
		p.Update(next)
		if i%20 == 0 {
			p.Status()
			series(t, p)
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	wg.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d of %d requests failed, want 0", failed.Load(), sent.Load())
	}
	p.Update(plan)
	web := settled(t, p).Services[0]
	if web.Requests != uint64(sent.Load()) || web.Errors != 0 || web.InFlight != 0 {
		t.Errorf("status %+v, want %d requests, no error", web, sent.Load())
	}
	got := 0
	for _, o := range origins {
		got += o.Count()
	}
	if got != int(sent.Load()) {
		t.Errorf("the origins got %d requests, want %d", got, sent.Load())
	}
}

// An endpoint that is killed under load, and is still in the plan, costs no
// request that may be repeated; neither does its return. No POST arrives twice.
func TestEndpointKilled(t *testing.T) {
	a, b := testserver.New(t, "a"), testserver.New(t, "b")
	all := []*testserver.Origin{a, b}
	p, addr := start(t, proxy.Config{}, sole(of(a, b)...))
	ctx, cancel := context.WithCancel(context.Background())
	var sent, lost atomic.Int64
	var wg sync.WaitGroup
	run := func(request func(c *http.Client) *http.Response) {
		c := client(t)
		wg.Go(func() {
			for ctx.Err() == nil {
				res := request(c)
				sent.Add(1)
				switch {
				case res.StatusCode == 200:
				case res.Request.Method == "POST" && proxyError(res) == "connection_terminated":
					lost.Add(1)
				default:
					t.Errorf("%s: status %d, %s", res.Request.Method, res.StatusCode, proxyError(res))
				}
			}
		})
	}
	var posts atomic.Int64
	for range 3 {
		run(func(c *http.Client) *http.Response {
			res, _ := do(t, c, "GET", "http://"+addr+"/", nil)
			return res
		})
		run(func(c *http.Client) *http.Response {
			res, _ := do(t, c, "PUT", "http://"+addr+"/", strings.NewReader("body"))
			return res
		})
		run(func(c *http.Client) *http.Response {
			res, _ := do(t, c, "POST", fmt.Sprintf("http://%s/?post=%d", addr, posts.Add(1)), strings.NewReader("body"))
			return res
		})
	}
	for range 2 {
		for _, victim := range []**testserver.Origin{&a, &b} {
			at := sent.Load()
			await(t, "150 requests", func() bool { return sent.Load() > at+150 })
			(*victim).Close()
			at = sent.Load()
			await(t, "150 requests", func() bool { return sent.Load() > at+150 })
			*victim = testserver.NewAt(t, (*victim).Name, (*victim).Addr)
			all = append(all, *victim)
		}
	}
	cancel()
	wg.Wait()
	web := settled(t, p).Services[0]
	if web.Requests != uint64(sent.Load()) || web.Errors != uint64(lost.Load()) || web.Retries == 0 {
		t.Errorf("status %+v, want %d requests, some of them repeated, and %d POSTs lost", web, sent.Load(), lost.Load())
	}
	times := make(map[string]int)
	for _, o := range all {
		for _, r := range o.Seen() {
			if r.Method == "POST" {
				times[r.Target]++
			}
		}
	}
	for target, n := range times {
		if n != 1 {
			t.Errorf("%s arrived %d times", target, n)
		}
	}
	t.Logf("%d requests, %d repeated, %d of %d POSTs lost", sent.Load(), web.Retries, lost.Load(), posts.Load())
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken, free := l.Addr().String(), testserver.FreeAddr(t)
	p := proxy.New(proxy.Config{})
	plan := sole()
	plan.Listeners = []proxy.Listener{{Bind: free}, {Bind: taken, Source: "flag -listen"}}
	p.Update(plan)
	err = p.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "flag -listen") || !strings.Contains(err.Error(), "another process has this port: stop it or choose another address") {
		t.Errorf("Run: %v, want the address, where it is from and what to do", err)
	}
	if other, err := net.Listen("tcp", free); err != nil {
		t.Errorf("the other listener is still open: %v", err)
	} else {
		other.Close()
	}
}

// Listeners come and go with plans; one that can't be opened then is tried
// again, and what runs on one that left is finished.
func TestListenersChange(t *testing.T) {
	a := testserver.New(t, "a")
	log := new(lines)
	plan := sole(of(a)...)
	p, first := start(t, proxy.Config{Log: slog.New(slog.NewTextHandler(log, nil))}, plan)
	c := client(t)

	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := busy.Addr().String()
	next := *plan
	next.Listeners = append(next.Listeners, proxy.Listener{Bind: taken})
	p.Update(&next)
	await(t, "line about the port", func() bool { return strings.Contains(log.String(), "another process has this port") })
	get(t, c, "http://"+first+"/") // the first goes on
	busy.Close()
	await(t, "second listener", func() bool { return len(p.Addrs()) == 2 })
	get(t, c, "http://"+taken+"/")

	held := make(chan string)
	go func() {
		_, body := get(t, client(t), "http://"+first+"/hold")
		held <- body
	}()
	a.WaitHeld(t, 1)
	last := *plan
	last.Listeners = []proxy.Listener{{Bind: taken}}
	p.Update(&last)
	await(t, "end of the first listener", func() bool {
		c, err := net.Dial("tcp", first)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	a.Release(t)
	if body := <-held; body != "a" {
		t.Errorf("the request on the listener that left got %q", body)
	}
	get(t, c, "http://"+taken+"/")
	if n := strings.Count(log.String(), "another process has this port"); n != 1 {
		t.Errorf("%d lines about the port, want 1", n)
	}
}

// New settings of a listener hold for connections that come; its socket stays
// open all the time.
func TestListenerSettings(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	p, addr := start(t, proxy.Config{}, plan)
	head := "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n"
	status := func() int {
		c := testserver.Dial(t, addr)
		c.Send(head)
		return c.Response(t, "GET").StatusCode
	}
	if got := status(); got != 200 {
		t.Fatalf("a head of 20 KiB: %d, want 200", got)
	}
	next := *plan
	next.Listeners = []proxy.Listener{{Bind: plan.Listeners[0].Bind, Limits: proxy.Limits{Head: 4 << 10}}}
	p.Update(&next)
	await(t, "smaller limit", func() bool { return status() == 431 })
	if got := p.Addrs(); len(got) != 1 || got[0] != addr {
		t.Errorf("addresses %v, want %s as before", got, addr)
	}
}

// When Run's context ends no connection is accepted any more, running requests
// and tunnels finish, and what is left after the drain time is cut off.
func TestDrain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		drain time.Duration
		cut   bool
	}{{"finish", time.Minute, false}, {"cut", 100 * time.Millisecond, true}, {"at once", -1, true}} {
		t.Run(tt.name, func(t *testing.T) {
			a := testserver.New(t, "a")
			p := proxy.New(proxy.Config{Drain: tt.drain})
			plan := sole(of(a)...)
			plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0"}}
			p.Update(plan)
			if err := p.Listen(); err != nil {
				t.Fatal(err)
			}
			addr := p.Addrs()[0]
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()

			held, tunnel, idle := testserver.Dial(t, addr), testserver.Dial(t, addr), testserver.Dial(t, addr)
			held.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
			tunnel.Send(handshake)
			switched(t, tunnel)
			idle.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			io.ReadAll(idle.Response(t, "GET").Body)
			a.WaitHeld(t, 1)
			cancel()
			if rest, err := idle.Rest(); rest != "" || err != nil {
				t.Errorf("idle connection: %q, %v, want the end", rest, err)
			}
			if _, err := net.Dial("tcp", addr); err == nil {
				t.Error("a new connection is still accepted")
			}
			if !tt.cut {
				tunnel.Send("ping")
				buf := make([]byte, 4)
				if _, err := io.ReadFull(tunnel, buf); err != nil || string(buf) != "ping" {
					t.Errorf("tunnel: %q, %v", buf, err)
				}
				a.Release(t)
				res := held.Response(t, "GET")
				if body, err := io.ReadAll(res.Body); string(body) != "a" || err != nil || !res.Close {
					t.Errorf("held request: %q, %v, close %v, want an answer and the end", body, err, res.Close)
				}
				select {
				case err := <-done:
					t.Fatalf("Run returned (%v) while a tunnel was open", err)
				default:
				}
				tunnel.CloseWrite()
			}
			if rest, _ := tunnel.Rest(); rest != "" {
				t.Errorf("tunnel: %q, want the end", rest)
			}
			if rest, _ := held.Rest(); rest != "" {
				t.Errorf("held request: %q, want the end", rest)
			}
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// A client that goes away ends its request upstream, and no endpoint is blamed.
func TestClientLeaves(t *testing.T) {
	a := testserver.New(t, "a")
	p, addr := start(t, proxy.Config{}, sole(of(a)...))
	c := testserver.Dial(t, addr)
	c.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
	a.WaitHeld(t, 1)
	c.Close()
	a.WaitHeld(t, 0)
	web := settled(t, p).Services[0]
	if web.Requests != 1 || web.Errors != 0 || web.Retries != 0 || web.Upstreams[0].Errors != 0 || a.Count() != 1 {
		t.Errorf("status %+v, want one request and no error", web)
	}
	if n := metric(t, p, `muster_requests_total{code="client_gone",service="web"}`); n != 1 {
		t.Errorf("client_gone: %v, want 1", n)
	}
}

// A client that stops inside its body gets 408; one that breaks off, nothing;
// and the endpoint never sees a whole request.
func TestBodyStops(t *testing.T) {
	got := make(chan string, 1)
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		text, _ := c.Rest()
		got <- text
	})
	plan := sole(endpoint("a", raw.Addr))
	plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0", Timeout: proxy.ListenerTimeout{Body: 200 * time.Millisecond}}}
	p, addr := start(t, proxy.Config{}, plan)
	for _, tt := range []struct{ name, fields, body string }{
		{"length", "Content-Length: 10", "hello"},
		{"chunked", "Transfer-Encoding: chunked", "5\r\nhello\r\n"},
	} {
		c := testserver.Dial(t, addr)
		c.Send("PUT / HTTP/1.1\r\nHost: x\r\n" + tt.fields + "\r\n\r\n" + tt.body)
		if res := c.Response(t, "PUT"); res.StatusCode != 408 || !res.Close {
			t.Errorf("%s, stopped: status %d, close %v, want 408 and close", tt.name, res.StatusCode, res.Close)
		}
		if text := <-got; strings.HasSuffix(text, "0\r\n\r\n") {
			t.Errorf("%s, stopped: the origin got %q, want no end of the body", tt.name, text)
		}
		c = testserver.Dial(t, addr)
		c.Send("PUT / HTTP/1.1\r\nHost: x\r\n" + tt.fields + "\r\n\r\n" + tt.body)
		c.Close()
		if text := <-got; strings.HasSuffix(text, "0\r\n\r\n") {
			t.Errorf("%s, broken off: the origin got %q, want no end of the body", tt.name, text)
		}
	}
	settled(t, p)
	if u := upstream(p, "a"); u.Errors != 0 {
		t.Errorf("upstream %+v, want no error: it was the client", u)
	}
}

// An endpoint that stops taking a body is silent too.
func TestEndpointStopsReading(t *testing.T) {
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		c.Head()
		c.Silence(t)
	})
	plan := sole(endpoint("a", raw.Addr))
	plan.Services[0].Timeout.Response = 300 * time.Millisecond
	_, addr := start(t, proxy.Config{}, plan)
	c := testserver.Dial(t, addr)
	c.Send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	wg.Go(func() { io.Copy(c.Conn, io.LimitReader(zeros{}, 100_000_000)) })
	if res := c.Response(t, "PUT"); res.StatusCode != 504 || proxyError(res) != "http_response_timeout" {
		t.Errorf("status %d, %s, want 504 and http_response_timeout", res.StatusCode, proxyError(res))
	}
}

// An endpoint that hangs up while the client pauses inside its body: the client
// is told, and need not go on first.
func TestEndpointHangsUp(t *testing.T) {
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		c.Head()
		io.CopyN(io.Discard, c, 5)
	})
	p, addr := start(t, proxy.Config{}, sole(endpoint("a", raw.Addr)))
	c := testserver.Dial(t, addr)
	c.Send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
	res := c.Response(t, "PUT")
	if res.StatusCode != 502 || proxyError(res) != "connection_terminated" {
		t.Errorf("status %d, %s, want 502 and connection_terminated", res.StatusCode, proxyError(res))
	}
	if web := settled(t, p).Services[0]; web.Upstreams[0].Errors != 1 || raw.Conns() != 1 {
		t.Errorf("status %+v, %d connections, want one error of the endpoint", web, raw.Conns())
	}
}

// A client that is slow with its head, or sends nothing more, loses its
// connection.
func TestSlowClients(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0", Timeout: proxy.ListenerTimeout{Header: 200 * time.Millisecond, Idle: 200 * time.Millisecond}}}
	_, addr := start(t, proxy.Config{}, plan)
	slow, idle := testserver.Dial(t, addr), testserver.Dial(t, addr)
	slow.Send("GET / HTTP/1.1\r\nHost: x\r\nX-Sl")
	idle.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	io.ReadAll(idle.Response(t, "GET").Body)
	if rest, err := slow.Rest(); !strings.HasPrefix(rest, "HTTP/1.1 4") || err != nil {
		t.Errorf("slow: %q, %v, want an error answer and the end", rest, err)
	}
	if rest, err := idle.Rest(); rest != "" || err != nil {
		t.Errorf("idle: %q, %v, want the end", rest, err)
	}
	if a.Count() != 1 {
		t.Errorf("the origin got %d requests, want 1", a.Count())
	}
}

// An answer that comes before the request has ended is delivered.
func TestEarlyAnswer(t *testing.T) {
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		c.Head()
		c.Send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
		c.CloseWrite()
		c.Rest()
	})
	_, addr := start(t, proxy.Config{}, sole(endpoint("a", raw.Addr)))
	c := testserver.Dial(t, addr)
	c.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nxxx")
	res := c.Response(t, "POST")
	if body, err := io.ReadAll(res.Body); res.StatusCode != 413 || string(body) != "much" || err != nil {
		t.Errorf("status %d, %q, %v, want the 413", res.StatusCode, body, err)
	}
}

// Status and counters are kept by service, ID and address, whatever else of an
// endpoint changes.
func TestCountersSurvive(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	p, addr := start(t, proxy.Config{}, plan)
	c := client(t)
	for i := range 5 {
		get(t, c, "http://"+addr+"/")
		e := endpoint("a", a.Addr)
		e.Weight, e.Tags = 10+i, []string{fmt.Sprint(i)}
		p.Update(with(plan, e))
	}
	settled(t, p)
	if u := upstream(p, "a"); u.Requests != 5 || u.Weight != 14 || a.Conns() != 1 {
		t.Errorf("upstream %+v, %d connections, want 5 requests on one connection, weight 14", u, a.Conns())
	}
	p.Update(with(plan, endpoint("b", a.Addr)))
	if u := upstream(p, "b"); u.Requests != 0 {
		t.Errorf("another ID: %+v, want it new", u)
	}
	if s := p.Status().Services[0]; s.Requests != 5 {
		t.Errorf("service %+v, want its 5 requests", s)
	}
}
