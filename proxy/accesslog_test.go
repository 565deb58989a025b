package proxy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/catalog"
	"muster/internal/testserver"
	"muster/proxy"
)

// lines is a log that can be waited for.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// wait returns all once there are n lines.
func (l *lines) wait(t testing.TB, n int) string {
	t.Helper()
	await(t, "line in the log", func() bool { return strings.Count(l.String(), "\n") >= n })
	return l.String()
}

func TestAccessLogCombined(t *testing.T) {
	a := testserver.New(t, "a")
	log := new(lines)
	plan := sole(of(a)...)
	plan.AccessLog = "combined"
	_, addr := start(t, proxy.Config{AccessLog: log}, plan)
	c := testserver.Dial(t, addr)
	c.Send("GET /x?\"\\ HTTP/1.1\r\nHost: x\r\nReferer: a\"b\r\nUser-Agent: \x80\t'\r\n\r\n")
	c.Response(t, "GET")
	want := regexp.MustCompile(`^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /x\?\\"\\\\ HTTP/1\.1" 200 1 "a\\"b" "\\x80\\x09'"` + "\n$")
	if got := log.wait(t, 1); !want.MatchString(got) {
		t.Errorf("line %q, want %s", got, want)
	}
}

func TestAccessLogJSON(t *testing.T) {
	a := testserver.New(t, "a")
	log := new(lines)
	plan := sole(endpoint("a", a.Addr))
	plan.AccessLog = "json"
	plan.Routes[0].Path = "/app"
	p, addr := start(t, proxy.Config{AccessLog: log}, plan)
	c := client(t)
	for i, path := range []string{"/app", "/app", "/else"} {
		res, _ := do(t, c, "GET", "http://"+addr+path, nil)
		text := log.wait(t, 1)
		log.mu.Lock()
		log.buf.Reset()
		log.mu.Unlock()
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := map[string]any{"client": "127.0.0.1", "method": "GET", "target": path, "host": addr, "proto": "HTTP/1.1", "request_id": res.Header.Get("X-Request-Id")}
		if path == "/app" {
			want["status"], want["bytes"], want["service"], want["endpoint"], want["addr"], want["tries"], want["error"] = 200.0, 1.0, "web", "a", a.Addr, 1.0, nil
			want["end"] = "ok"
			if i > 0 {
				want["reused"], want["connect"] = true, nil
			} else if took, ok := line["connect"].(float64); !ok || took <= 0 || took > line["first_byte"].(float64) || line["reused"] != nil {
				t.Errorf("the first: connect is %v of %v, reused %v", line["connect"], line["first_byte"], line["reused"])
			}
		} else {
			want["status"], want["service"], want["tries"], want["error"] = 404.0, nil, 0.0, "destination_not_found"
			want["end"] = "no_route"
		}
		for k, v := range want {
			if line[k] != v {
				t.Errorf("%s: %q is %v, want %v", path, k, line[k], v)
			}
		}
	}
	next := *plan
	next.AccessLog = "off"
	p.Update(&next)
	get(t, c, "http://"+addr+"/app")
	if text := log.String(); text != "" {
		t.Errorf("off, and yet %q", text)
	}
}

// How long a head took to come is not part of the request's time.
func TestAccessLogOfASlowHead(t *testing.T) {
	a := testserver.New(t, "a")
	log := new(lines)
	plan := sole(of(a)...)
	plan.AccessLog = "json"
	p, addr := start(t, proxy.Config{AccessLog: log}, plan)
	c := testserver.Dial(t, addr)
	for _, rest := range []string{"\r\n", "bad field\r\n\r\n"} {
		c.Send("GET / HTTP/1.1\r\nHost: x\r\n")
		time.Sleep(50 * time.Millisecond)
		c.Send(rest)
		c.Response(t, "GET").Body.Close()
	}
	text := log.wait(t, 2)
	for i, want := range []string{"ok", "bad_head"} {
		var line struct {
			Head float64
			End  string
		}
		if err := json.Unmarshal([]byte(strings.Split(text, "\n")[i]), &line); err != nil || line.Head < 0.05 || line.End != want {
			t.Errorf("got %+v, %v, want %s and 0.05 s for the head, in\n%s", line, err, want, text)
		}
	}
	got := series(t, p)
	for name, want := range map[string]float64{"ok": 1, "bad_head": 1, "no_route": 0} {
		if v, ok := got[`muster_request_ends_total{end="`+name+`"}`]; !ok || v != want {
			t.Errorf("muster_request_ends_total of %s is %v (there: %v), want %v", name, v, ok, want)
		}
	}
}

// stuck is a log that takes nothing until it is freed, and then fails.
type stuck struct {
	free chan struct{}
	in   chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	select {
	case s.in <- struct{}{}:
	default:
	}
	<-s.free
	return 0, errors.New("disk full")
}

// A log that takes nothing delays no request; what is too much is dropped and
// counted.
func TestAccessLogStuck(t *testing.T) {
	s := &stuck{make(chan struct{}), make(chan struct{}, 1)}
	log := new(lines)
	p, addr := start(t, proxy.Config{AccessLog: s, Log: slog.New(slog.NewTextHandler(log, nil))}, &proxy.Plan{
		Ready: true, AccessLog: "combined", Services: []*proxy.Service{}, Routes: []proxy.Route{{Route: catalog.Route{Path: "/"}, Service: "none"}},
	})
	free := sync.OnceFunc(func() { close(s.free) })
	t.Cleanup(free)
	c := testserver.Dial(t, addr)
	const n = 5000
	for range n {
		c.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res := c.Response(t, "GET")
		res.Body.Close()
	}
	await(t, "dropped line", func() bool { return metric(t, p, "muster_access_log_dropped_total") > 0 })
	free()
	await(t, "logged error", func() bool { return strings.Contains(log.String(), "disk full") })
	if text := log.String(); strings.Count(text, "disk full") != 1 {
		t.Errorf("log %s: want the error once", text)
	}
}
