package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"muster/discovery"
	"muster/proxy"
)

// text is a page as a reader without a browser sees it: one line a row, cells
// parted by |.
func text(page string) string {
	if _, after, ok := strings.Cut(page, "<body>"); ok {
		page = after
	}
	page, _, _ = strings.Cut(page, "<template")
	page = regexp.MustCompile(`\s+`).ReplaceAllString(page, " ")
	page = regexp.MustCompile(`<p[^>]* hidden(="")?>.*?</p>`).ReplaceAllString(page, "")
	page = regexp.MustCompile(`<span[^>]* hidden(="")?>.*?</span>`).ReplaceAllString(page, "")
	page = regexp.MustCompile(`</(tr|li|p|h1|h2|div|caption)>`).ReplaceAllString(page, "\n")
	page = regexp.MustCompile(`</t[hd]> *`).ReplaceAllString(page, "|")
	page = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, "")
	page = regexp.MustCompile(` *([|\n]) *`).ReplaceAllString(page, "$1")
	return html.UnescapeString(regexp.MustCompile(`  +`).ReplaceAllString(page, " "))
}

// sampled is an Admin with two samples, ten seconds apart, that nobody runs.
func sampled(t *testing.T, cfg Config, before, after proxy.Status) *Admin {
	t.Helper()
	b := &scripted{status: before}
	cfg.Balancer, cfg.Bind = b, "127.0.0.1:0"
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	now := time.Now()
	a.sampler.sample(now.Add(-10 * time.Second))
	b.set(after)
	a.sampler.sample(now)
	return a
}

func TestRatesAreOfTheTimeBetween(t *testing.T) {
	a := sampled(t, Config{}, webStatus(1000, 1000), webStatus(1300, 1100))
	v, _ := a.view()
	web := v.status.Services[1]
	e1, e2 := web.Endpoints[0], web.Endpoints[1]
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"web rate", web.Rate, 40.0},
		{"web errors", web.Errors, uint64(10)},
		{"web error percent", web.ErrorPct, 2.5},
		{"web state", web.State + ": " + web.Summary, "part: 1 up, 1 failing"},
		{"web history", web.History.Rate, []float64{40}},
		{"web routes", web.Routes, []string{"example.com/"}},
		{"1 rate", e1.Rate, 30.0},
		{"1 share", e1.Share, 0.75},
		{"2 share", e2.Share, 0.25},
		{"2 in flight", e2.InFlight, int64(1)},
		{"2 error percent", e2.ErrorPct, 10.0},
		{"2 reason", e2.Reason, "connection refused"},
		{"total rate", v.status.Total.Rate, 40.0},
		{"total errors", v.status.Total.Errors, uint64(10)},
		{"total in flight", v.status.Total.InFlight, int64(3)},
		{"api state", v.status.Services[0].State + ": " + v.status.Services[0].Summary, "down: no endpoint"},
		{"api exposed", v.status.Services[0].Exposed, false},
	} {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
	// A quantile is off by at most an eighth.
	for what, p := range map[string][2]float64{
		"web p50": {web.P50, 2}, "web p99": {web.P99, 2}, "total p99": {v.status.Total.P99, 2},
		"1 p50": {e1.P50, 1}, "2 p99": {e2.P99, 4},
	} {
		if p[0] < p[1]*7/8 || p[0] > p[1]*9/8 {
			t.Errorf("%s: got %v ms, want %v", what, p[0], p[1])
		}
	}
}

// An endpoint that comes later counts from then on, and one that comes back
// with fresh counters does not count backwards; the sum keeps what those did
// that have left.
func TestEndpointsComeAndGo(t *testing.T) {
	b := &scripted{}
	s := newSampler(b)
	now := time.Now()
	next := func(status proxy.Status) {
		b.set(status)
		s.sample(now)
		now = now.Add(time.Second)
	}
	next(proxy.Status{})
	next(webStatus(100, 50))
	next(webStatus(10, 60)) // counters that went back
	next(proxy.Status{})
	total := s.rows[rowKey{}].total()
	if want := []float64{150, 70, 0}; !reflect.DeepEqual(total.History.Rate, want) {
		t.Errorf("history of all: got %v, want %v", total.History.Rate, want)
	}
	if len(s.rows) != 1 {
		t.Errorf("got %d rows after all have left, want only the sum", len(s.rows))
	}
	for range 100 {
		next(webStatus(1, 1))
	}
	for key, r := range s.rows {
		if len(r.points) > remembered+1 || len(r.latency) > r.latencies {
			t.Errorf("%v: %d points and %d histograms are kept, want at most %d and %d", key, len(r.points), len(r.latency), remembered+1, r.latencies)
		}
	}
}

func TestManyEndpointsAreBounded(t *testing.T) {
	status := many()
	for range 7 {
		status.Services[0].Upstreams = append(status.Services[0].Upstreams, proxy.UpstreamStatus{ID: "x", State: "up"})
	}
	a := sampled(t, Config{}, proxy.Status{}, status)
	v, _ := a.view()
	if n := len(v.status.Services[0].Endpoints); n != maxEndpoints || v.status.Omitted != 7 || v.status.Services[0].Summary != "2007 up" {
		t.Errorf("got %d endpoints listed, %d omitted, %q; want %d, 7, all counted", n, v.status.Omitted, v.status.Services[0].Summary, maxEndpoints)
	}
}

// The page says everything without JavaScript.
func TestPageWithoutJavaScript(t *testing.T) {
	a := sampled(t, Config{
		Version:  "v0.1.0",
		StoreURL: "etcd://127.0.0.1:2379",
		Store: scriptedStore{discovery.Status{
			Ready: true, Stale: true, Revision: 42, Proof: time.Now().Add(-72 * time.Second), Err: "etcd 127.0.0.1:2379: connection refused",
			Bad: []discovery.Bad{
				{Key: "/services/web/3", Value: "10.0.0.3", Err: `address "10.0.0.3": want host:port`},
				{Key: "/services/web/4", Value: "<script>", Err: "bad", Kept: true},
			},
		}},
		Notes: func() []Note {
			return []Note{{slog.LevelInfo, "api", "is not exposed: it announces no route. Give it one with -route, or this balancer -default api"}}
		},
	}, webStatus(1000, 1000), webStatus(1300, 1100))
	base := serve(t, a)
	resp, page := get(t, base+"/")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("got %d, %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	if !strings.Contains(page, `<noscript><meta http-equiv="refresh"`) {
		t.Error("without JavaScript the page does not load itself again")
	}
	got := text(page)
	for _, want := range []string{
		"store etcd://127.0.0.1:2379 · revision 42 · stale, last sign of life 1 min 12 s ago\n",
		"error The store gave no sign of life for 1 min 12 s. What it said last, revision 42, goes on serving: etcd 127.0.0.1:2379: connection refused\n",
		"warn Entry /services/web/3 = \"10.0.0.3\" can't be read: address \"10.0.0.3\": want host:port; it is left out until it is put right\n",
		"warn Entry /services/web/4 = \"<script>\" can't be read: bad; its last good form stays in use\n",
		"info api is not exposed: it announces no route. Give it one with -route, or this balancer -default api\n",
		"api not exposed|no endpoint||0|–|–|0|0||\n",
		"web example.com/|1 up, 1 failing||40|2.0|2.0|10 (2.5 %)|3||\n",
		"1 10.0.0.1:80|up|75 %|30|0.99|0.99|0|2||\n",
		"2 10.0.0.2:80|failing connection refused|25 %|10|4.0|4.0|10 (10 %)|1||\n",
		"example.com/|web|announced|api|\n",
		"404|1,200|\n",
		"Listening on 127.0.0.1:8080.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in the page, which says:\n%s", want, got)
		}
	}
	if strings.Contains(page, "<script>") {
		t.Error("a value of the store came through unescaped")
	}
}

func TestPageWithNothing(t *testing.T) {
	a := sampled(t, Config{}, proxy.Status{}, proxy.Status{})
	got := text(mustGet(t, serve(t, a)+"/"))
	for _, want := range []string{"not ready: no snapshot of the store yet", "no store", "No service is known yet.", "No route: every request gets 404."} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in the page, which says:\n%s", want, got)
		}
	}
}

// serve serves the samples that a has, without taking more.
func serve(t *testing.T, a *Admin, wrap ...func(http.Handler) http.Handler) (base string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{Handler: a.handler(ctx)}
	for _, w := range wrap {
		server.Handler = w(server.Handler)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(a.listener) }()
	t.Cleanup(func() {
		cancel()
		server.Close()
		<-ended
	})
	return "http://" + a.Addr().String()
}

func mustGet(t *testing.T, url string) string {
	t.Helper()
	resp, body := get(t, url)
	if resp.StatusCode != 200 {
		t.Fatalf("GET %s: got %d %q", url, resp.StatusCode, body)
	}
	return body
}

// An event is one server-sent event.
type event struct {
	name   string
	status Status
}

// follow opens the stream and returns what reads the next event.
func follow(t *testing.T, base string) (next func() event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", base+"/api/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("stream: got %d, %s", resp.StatusCode, kind)
	}
	lines := bufio.NewReader(resp.Body)
	return func() (e event) {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("stream: %v", err)
			}
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch name {
			case "":
				return e
			case "event":
				e.name = value
			case "data":
				if err := json.Unmarshal([]byte(value), &e.status); err != nil {
					t.Fatalf("stream: %v in %s", err, value)
				}
			}
		}
	}
}

func TestStream(t *testing.T) {
	b := &scripted{status: webStatus(1000, 1000)}
	_, base := start(t, Config{Balancer: b})
	next := follow(t, base)
	first := next()
	b.set(webStatus(1500, 1500))
	second := next()
	b.set(webStatus(1500, 1500))
	third := next()
	for i, e := range []event{first, second, third} {
		if want := []string{"full", "tick", "tick"}[i]; e.name != want || len(e.status.Services) != 2 {
			t.Errorf("event %d: got %q with %d services, want %q with 2", i, e.name, len(e.status.Services), want)
		}
	}
	if r := second.status.Services[1].History.Rate; len(r) != 1 || r[0] <= 0 {
		t.Errorf("second event: history %v, want the newest rate only, above 0", r)
	}
	if r := third.status.Services[1].History.Rate; len(r) != 1 || r[0] != 0 {
		t.Errorf("third event: history %v, want [0]", r)
	}
	// Who comes later gets the history at once.
	if late := follow(t, base)(); late.name != "full" || len(late.status.Total.History.Rate) < 2 {
		t.Errorf("late reader: got %q with the history %v, want all of it", late.name, late.status.Total.History.Rate)
	}
}

// many is a service of as many endpoints as are shown.
func many() proxy.Status {
	svc := proxy.ServiceStatus{Name: "web"}
	for i := range maxEndpoints {
		svc.Upstreams = append(svc.Upstreams, proxy.UpstreamStatus{ID: fmt.Sprint(i), Addr: "10.0.0.1:80", State: "up"})
	}
	return proxy.Status{Services: []proxy.ServiceStatus{svc}}
}

// dialStream asks for the stream and reads nothing.
func dialStream(t *testing.T, base string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	return c
}

// A reader that reads nothing keeps nobody waiting.
func TestSlowReaderBlocksNobody(t *testing.T) {
	_, base := start(t, Config{Balancer: &scripted{status: many()}})
	dialStream(t, base)
	next := follow(t, base)
	for range 3 {
		next()
	}
}

// narrow is a listener whose connections hold little that is not read.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// A reader that goes on reading nothing is dropped.
func TestSlowReaderIsDropped(t *testing.T) {
	a := sampled(t, Config{}, many(), many())
	a.listener, a.patience = narrow{a.listener}, 50*time.Millisecond
	dropped := make(chan struct{})
	base := serve(t, a, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			close(dropped)
		})
	})
	dialStream(t, base)
	select {
	case <-dropped:
	case <-time.After(time.Minute):
		t.Fatal("a reader that reads nothing is still waited for")
	}
}

// The end of Run ends the streams.
func TestStreamEndsWithRun(t *testing.T) {
	a, err := New(Config{Bind: "127.0.0.1:0", Balancer: &scripted{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	c := dialStream(t, "http://"+a.Addr().String())
	answer := bufio.NewReader(c)
	if line, err := answer.ReadString('\n'); line != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("stream: got %q, %v", line, err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, answer); err != nil {
		t.Errorf("stream: got %v, want its end", err)
	}
	<-ended
	if c, err := net.Dial("tcp", a.Addr().String()); err == nil {
		c.Close()
		t.Errorf("%s is still listened on", a.Addr())
	}
}
