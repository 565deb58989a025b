package proxy_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"muster/internal/testserver"
	"muster/proxy"
)

// ask sends raw bytes to addr and returns what the origin's /fields says it got.
func ask(t *testing.T, addr, request string) []string {
	t.Helper()
	c := testserver.Dial(t, addr)
	c.Send(request)
	res := c.Response(t, "GET")
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("status %d, %v, %s", res.StatusCode, err, body)
	}
	return strings.Split(strings.TrimSpace(string(body)), "\n")
}

// without returns lines but for those of X-Request-Id, of which it checks that
// there is one good one.
func without(t *testing.T, lines []string) []string {
	t.Helper()
	ids := 0
	lines = slices.DeleteFunc(lines, func(l string) bool {
		id, ok := strings.CutPrefix(l, "X-Request-Id: ")
		if ok {
			ids++
			if len(id) != 32 {
				t.Errorf("X-Request-Id %q: want 32 digits", id)
			}
		}
		return ok
	})
	if ids != 1 {
		t.Errorf("%d lines X-Request-Id, want 1", ids)
	}
	return lines
}

// What an origin gets for what a client sent.
func TestRequestFields(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	ours := []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: example.com:81", "X-Forwarded-Proto: http"}
	for _, tt := range []struct {
		name   string
		fields string
		want   []string // beside ours
	}{
		{"nothing is added", "", nil},
		{"end-to-end fields pass", "Accept: a\r\nCookie: b\r\nUser-Agent: me\r\nAuthorization: x\r\nRange: bytes=0-\r\n", []string{"Accept: a", "Authorization: x", "Cookie: b", "Range: bytes=0-", "User-Agent: me"}},
		{"forwarding fields of strangers", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nx-forwarded-proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /p\r\n" +
			"X-Forwarded-Anything: 1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Client-IP: 1.1.1.1\r\nX-Cluster-Client-IP: 1.1.1.1\r\nTrue-Client-IP: 1.1.1.1\r\nX-Request-Id: mine\r\n", nil},
		{"aliases of them", "X_Forwarded_For: 1.1.1.1\r\nX.Forwarded.For: 1.1.1.1\r\nX_Request_Id: mine\r\nContent.Length: 5\r\n", nil},
		{"fields that reroute or poison", "Proxy: http://evil\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n", nil},
		{"hop-by-hop", "Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nTE: gzip\r\nHTTP2-Settings: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", nil},
		{"named by Connection", "A: 1\r\nB: 2\r\nC: 3\r\nConnection: a\r\nConnection: , B ,keep-alive\r\n", []string{"C: 3"}},
		{"named beside close", "A: 1\r\nConnection: close, a\r\n", nil},
		{"ours named by Connection", "Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Request-Id, Host\r\n", nil},
		{"trailers accepted", "TE: deflate, trailers\r\nConnection: TE\r\n", []string{"Connection: TE", "Te: trailers"}},
		{"an upgrade to another protocol", "Connection: upgrade\r\nUpgrade: h2c\r\n", nil},
		{"repeated fields", "A: 1\r\nB: 0\r\nA: 2\r\n", []string{"A: 1", "A: 2", "B: 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := without(t, ask(t, addr, "GET /fields HTTP/1.1\r\nHost: example.com:81\r\n"+tt.fields+"\r\n"))
			want := slices.Sorted(slices.Values(append(slices.Clone(ours), tt.want...)))
			want = append([]string{"GET /fields HTTP/1.1", "Host: example.com:81"}, want...)
			if !slices.Equal(got, want) {
				t.Errorf("the origin got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// Targets go out byte for byte.
func TestTarget(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	for _, target := range []string{
		"/", "/?", "/a%2Fb%2fc", "//a//b", "/a;b?c;d&e=%zz", "/a|b^c`{d}", "/%7e~%41", `/"quoted"`, "/a'b(c)!*", "/?a=1&&b=?/x", "/a?b=%00", "/...", "/.a/a..;b/..c", "/a?b=/../c\\d",
	} {
		c := testserver.Dial(t, addr)
		c.Send("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if res := c.Response(t, "GET"); res.StatusCode != 200 {
			t.Errorf("%s: status %d", target, res.StatusCode)
			continue
		}
		seen := a.Seen()
		if got := seen[len(seen)-1].Target; got != target {
			t.Errorf("the origin got the target %s, want %s", got, target)
		}
	}
}

// What a client gets for what an endpoint answered.
func TestResponseFields(t *testing.T) {
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		for _, connection := range []string{"X-Named, , keep-alive\r\nX-Named: 1", "close"} {
			c.Head()
			c.Send("HTTP/1.1 200 OK\r\nServer: me\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\n" +
				"X-Request-Id: theirs\r\nContent-Length: 6\r\nConnection: " + connection + "\r\n\r\n<html>")
		}
	})
	_, addr := start(t, proxy.Config{}, sole(endpoint("a", raw.Addr)))
	c := testserver.Dial(t, addr)
	for range 3 { // the endpoint's close is not the client's
		c.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res := c.Response(t, "GET")
		body, _ := io.ReadAll(res.Body)
		id := res.Header.Get("X-Request-Id")
		res.Header.Del("X-Request-Id")
		want := http.Header{"Server": {"me"}, "Date": {"Tue, 15 Nov 1994 08:12:31 GMT"}, "Set-Cookie": {"a", "b"}, "Content-Length": {"6"}}
		if len(id) != 32 || string(body) != "<html>" || !equal(res.Header, want) {
			t.Errorf("id %q, body %q, fields %v, want %v and nothing guessed", id, body, res.Header, want)
		}
	}
}

func equal(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if !slices.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}

func TestRefusedRequests(t *testing.T) {
	a := testserver.New(t, "a")
	log := new(lines)
	plan := sole(of(a)...)
	plan.AccessLog = "json"
	p, addr := start(t, proxy.Config{AccessLog: log}, plan)
	for _, tt := range []struct {
		request string
		status  int
	}{
		{"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405},
		{"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405},
		{"GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET /a/.%2e;x/b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET /a/%2E HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", 431},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
	} {
		c := testserver.Dial(t, addr)
		c.Send(tt.request)
		res := c.Response(t, "GET")
		if res.StatusCode != tt.status || !res.Close || proxyError(res) == "" || len(res.Header.Get("X-Request-Id")) != 32 {
			t.Errorf("%.30q: status %d, close %v, fields %v, want %d and close, and who says so", tt.request, res.StatusCode, res.Close, res.Header, tt.status)
		}
	}
	if a.Count() != 0 {
		t.Errorf("the origin got %+v, want nothing", a.Seen())
	}
	if got := settled(t, p).Refused; got[400] != 10 || got[405] != 2 || got[431] != 1 || got[505] != 1 {
		t.Errorf("refused %v, want 10 400, 2 405, a 431 and a 505", got)
	}
	if n := metric(t, p, `muster_refused_total{code="431",error="http_request_denied"}`); n != 1 {
		t.Errorf("%v heads were too large, want 1", n)
	}
	if text := log.wait(t, 14); !strings.Contains(text, `"reason":"The request has no Host."`) || !strings.Contains(text, `"status":505`) {
		t.Errorf("access log %s: want a line for each, and why", text)
	}
}
