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
	for _, path := range []string{"/app", "/else"} {
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
		} else {
			want["status"], want["service"], want["tries"], want["error"] = 404.0, nil, 0.0, "destination_not_found"
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
