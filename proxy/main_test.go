package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"muster/catalog"
	"muster/internal/testserver"
	"muster/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a proxy with plan on a free port until the test ends, and returns
// it and its address.
func start(t testing.TB, c proxy.Config, plan *proxy.Plan) (*proxy.Proxy, string) {
	t.Helper()
	if plan.Listeners == nil {
		plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0"}}
	}
	p := proxy.New(c)
	p.Update(plan)
	if err := p.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p, p.Addrs()[0]
}

// sole is a plan with one service, web, that answers everything.
func sole(endpoints ...*catalog.Endpoint) *proxy.Plan {
	return &proxy.Plan{
		Ready:    true,
		Routes:   []proxy.Route{{Route: catalog.Route{Path: "/"}, Service: "web"}},
		Services: []*proxy.Service{{Name: "web", Endpoints: endpoints}},
	}
}

func endpoint(id, addr string) *catalog.Endpoint {
	return &catalog.Endpoint{Service: "web", ID: id, Announcement: catalog.Announcement{Addr: addr, Weight: 100, State: catalog.Up}}
}

func of(origins ...*testserver.Origin) (es []*catalog.Endpoint) {
	for _, o := range origins {
		es = append(es, endpoint(o.Name, o.Addr))
	}
	return es
}

// client returns a client that keeps its connections and follows nothing.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: testserver.Patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get returns status and body.
func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// settled is the status once no request is running. A client may have its whole
// answer a moment before the request is counted.
func settled(t testing.TB, p *proxy.Proxy) proxy.Status {
	t.Helper()
	await(t, "end of the requests", func() bool { return p.Status().InFlight == 0 })
	return p.Status()
}

func TestForward(t *testing.T) {
	a, b := testserver.New(t, "a"), testserver.New(t, "b")
	p, addr := start(t, proxy.Config{}, sole(of(a, b)...))
	c := client(t)
	names := make(map[string]int)
	for range 100 {
		code, body := get(t, c, "http://"+addr+"/")
		if code != 200 {
			t.Fatalf("status %d, want 200", code)
		}
		names[body]++
	}
	if names["a"]+names["b"] != 100 || names["a"] < 20 || names["b"] < 20 {
		t.Errorf("answers by origin: %v, want about 50 each", names)
	}
	st := settled(t, p)
	if st.Services[0].Requests != 100 || st.Services[0].Errors != 0 || st.InFlight != 0 {
		t.Errorf("status: %+v, want 100 requests", st.Services[0])
	}
}

func TestNoAnswer(t *testing.T) {
	plan := sole()
	p, addr := start(t, proxy.Config{}, &proxy.Plan{Listeners: []proxy.Listener{{Bind: "127.0.0.1:0"}}})
	c := client(t)
	for _, step := range []struct {
		name   string
		plan   *proxy.Plan
		status int
		error  string
	}{
		{"before the first snapshot", &proxy.Plan{}, 503, "destination_unavailable"},
		{"no endpoint", plan, 503, "destination_unavailable"},
		{"no route", &proxy.Plan{Ready: true}, 404, "destination_not_found"},
	} {
		step.plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0"}}
		p.Update(step.plan)
		res, err := c.Get("http://" + addr + "/x")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != step.status || !strings.HasPrefix(res.Header.Get("Proxy-Status"), "muster; error="+step.error+";") {
			t.Errorf("%s: status %d, Proxy-Status %q, want %d and %s", step.name, res.StatusCode, res.Header.Get("Proxy-Status"), step.status, step.error)
		}
		if res.Header.Get("Content-Type") != "text/plain; charset=utf-8" || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Server") != "" {
			t.Errorf("%s: fields %v", step.name, res.Header)
		}
		if id := res.Header.Get("X-Request-Id"); len(id) != 32 || !strings.Contains(string(body), id) {
			t.Errorf("%s: X-Request-Id %q, body %q", step.name, id, body)
		}
	}
	if got := fmt.Sprint(settled(t, p).Refused); got != "map[404:1 503:1]" {
		t.Errorf("refused %v, want a 404 and a 503", got)
	}
	if s := p.Status(); len(s.Services) != 0 || !slices.Equal(s.Listeners, []string{addr}) {
		t.Errorf("status %+v", s)
	}
}

// zeros reads as zeros for ever.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
