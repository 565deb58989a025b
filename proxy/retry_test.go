package proxy_test

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"muster/catalog"
	"muster/internal/testserver"
	"muster/proxy"
)

// proxyError is the error type in Proxy-Status.
func proxyError(res *http.Response) string {
	_, rest, _ := strings.Cut(res.Header.Get("Proxy-Status"), "error=")
	kind, _, _ := strings.Cut(rest, ";")
	return kind
}

// do sends one request and reads the whole answer.
func do(t testing.TB, c *http.Client, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", method, url, err)
	}
	return res, string(text)
}

// stream hides its length, so the body is sent in chunks.
type stream struct{ io.Reader }

// An endpoint that can't be connected to costs no request, whatever its method
// and size.
func TestRefusedGoesElsewhere(t *testing.T) {
	a := testserver.New(t, "a")
	dead := testserver.FreeAddr(t)
	p, addr := start(t, proxy.Config{}, sole(endpoint("a", a.Addr), endpoint("dead", dead)))
	c := client(t)
	methods := []string{"GET", "POST", "PATCH", "PUT", "DELETE"}
	bodies := []io.Reader{nil, strings.NewReader("x"), stream{strings.NewReader("x")}, bytes.NewReader(make([]byte, 1<<20)), stream{bytes.NewReader(make([]byte, 1<<20))}}
	n := 0
	for range 4 {
		for _, m := range methods {
			for _, body := range bodies {
				if s, ok := body.(stream); ok {
					body = s
					s.Reader.(io.Seeker).Seek(0, io.SeekStart)
				} else if body != nil {
					body.(io.Seeker).Seek(0, io.SeekStart)
				}
				if res, text := do(t, c, m, "http://"+addr+"/", body); res.StatusCode != 200 || text != "a" {
					t.Fatalf("%s: status %d, body %q", m, res.StatusCode, text)
				}
				n++
			}
		}
	}
	if got := a.Count(); got != n {
		t.Errorf("the origin got %d requests, want %d", got, n)
	}
	web := settled(t, p).Services[0]
	if web.Retries == 0 || web.Errors != 0 || web.Upstreams[1].Errors != web.Retries {
		t.Errorf("status %+v: want a retry for each error of the dead endpoint", web)
	}
}

// Requests that die on a fresh connection before a byte of an answer: how often
// the origins get them, and what the client gets.
func TestDiedBeforeAnswer(t *testing.T) {
	small, large := strings.Repeat("x", 16<<10), strings.Repeat("x", 16<<10+1)
	for _, tt := range []struct {
		method, body string
		chunked      bool
		sends        int
	}{
		{"GET", "", false, 3}, // then it may be the request that kills
		{"HEAD", "", false, 3},
		{"OPTIONS", "", false, 3},
		{"DELETE", "", false, 3},
		{"PUT", "", false, 3},
		{"PUT", small, false, 3},
		{"PUT", small, true, 3},
		{"PUT", large, false, 1},
		{"PUT", large, true, 1},
		{"POST", "", false, 1},
		{"POST", "x", false, 1},
		{"POST", "x", true, 1},
		{"PATCH", "x", false, 1},
	} {
		t.Run(tt.method, func(t *testing.T) {
			var raws []*testserver.Raw
			var es []*catalog.Endpoint
			for _, id := range []string{"a", "b", "c", "d", "e"} {
				raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
					if head, ok := c.Head(); ok {
						// The whole body first: a reset could overtake it.
						n := int64(len(tt.body))
						if !strings.Contains(head, "chunked") {
							io.CopyN(io.Discard, c, n)
						} else {
							readUntil(c, "0\r\n\r\n")
						}
					}
				})
				raws = append(raws, raw)
				es = append(es, endpoint(id, raw.Addr))
			}
			_, addr := start(t, proxy.Config{}, sole(es...))
			var body io.Reader
			if tt.body != "" {
				body = strings.NewReader(tt.body)
				if tt.chunked {
					body = stream{body}
				}
			}
			res, _ := do(t, client(t), tt.method, "http://"+addr+"/", body)
			if res.StatusCode != 502 || proxyError(res) != "connection_terminated" {
				t.Errorf("status %d, error %s, want 502 and connection_terminated", res.StatusCode, proxyError(res))
			}
			sends := 0
			for i, r := range raws {
				n := r.Conns()
				sends += n
				if n > 1 {
					t.Errorf("origin %d got %d connections, want at most one", i, n)
				}
			}
			if sends != tt.sends {
				t.Errorf("%d sends, want %d", sends, tt.sends)
			}
		})
	}
}

// readUntil reads until end has come.
func readUntil(r io.Reader, end string) {
	var got []byte
	b := make([]byte, 1)
	for !strings.HasSuffix(string(got), end) {
		if _, err := r.Read(b); err != nil {
			return
		}
		got = append(got[max(0, len(got)-len(end)):], b[0])
	}
}

// A body that was sent once is sent again, whole and the same.
func TestReplayedBody(t *testing.T) {
	dies := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		c.Head()
		io.CopyN(io.Discard, c, 10<<10) // most of it
	})
	echo := testserver.New(t, "echo")
	plan := sole(endpoint("dies", dies.Addr))
	// The second attempt has one way to go.
	plan.Services[0].Endpoints = append(plan.Services[0].Endpoints, endpoint("echo", echo.Addr))
	_, addr := start(t, proxy.Config{}, plan)
	c := client(t)
	for i := 0; dies.Conns() == 0 || i < 10; i++ {
		text := strings.Repeat(string(rune('a'+i%26)), 16<<10)
		var body io.Reader = strings.NewReader(text)
		if i%2 == 0 {
			body = stream{body}
		}
		res, got := do(t, c, "PUT", "http://"+addr+"/echo", body)
		if res.StatusCode != 200 || got != text {
			t.Fatalf("PUT %d: status %d, %d bytes, want what was sent", i, res.StatusCode, len(got))
		}
	}
}

// keepAliveThenDie answers the first request of its first connection and dies
// at the second, without a byte; later connections serve for ever.
func keepAliveThenDie(t *testing.T) *testserver.Raw {
	return testserver.NewRaw(t, func(c *testserver.Conn, n int) {
		for i := 0; ; i++ {
			if _, ok := c.Head(); !ok || n == 0 && i == 1 {
				return
			}
			c.Send("HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
}

// A reused connection that dies is made up for on a fresh one to the same
// endpoint, even if it is the only one.
func TestReusedDiedSameEndpoint(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE", "PUT"} {
		t.Run(method, func(t *testing.T) {
			raw := keepAliveThenDie(t)
			p, addr := start(t, proxy.Config{}, sole(endpoint("a", raw.Addr)))
			c := client(t)
			for range 2 {
				if res, _ := do(t, c, method, "http://"+addr+"/", nil); res.StatusCode != 204 {
					t.Fatalf("status %d, want 204", res.StatusCode)
				}
			}
			if raw.Conns() != 2 || settled(t, p).Services[0].Retries != 1 {
				t.Errorf("%d connections, %d retries, want 2 and 1", raw.Conns(), settled(t, p).Services[0].Retries)
			}
		})
	}
}

// A POST whose bytes went into a connection that died is not sent again, not
// even with a key that says it could be.
func TestReusedDiedPost(t *testing.T) {
	raw := keepAliveThenDie(t)
	other := testserver.New(t, "other")
	plan := sole(endpoint("a", raw.Addr))
	p, addr := start(t, proxy.Config{}, plan)
	c := client(t)
	do(t, c, "GET", "http://"+addr+"/", nil)
	next := sole(endpoint("a", raw.Addr), endpoint("other", other.Addr))
	next.Listeners = plan.Listeners
	next.Services[0].Endpoints[1].Weight = 0 // it could be asked, but for its weight
	p.Update(next)
	req, _ := http.NewRequest("POST", "http://"+addr+"/", nil)
	req.Header.Set("Idempotency-Key", "1")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 502 || proxyError(res) != "connection_terminated" || raw.Conns() != 1 || other.Count() != 0 {
		t.Errorf("status %d (%s), %d connections, %d at the other, want 502 and no second send", res.StatusCode, proxyError(res), raw.Conns(), other.Count())
	}
	if n := settled(t, p).Services[0].Retries; n != 0 {
		t.Errorf("%d retries, want 0", n)
	}
}

// A connection that the endpoint closed while it was idle costs nothing.
func TestIdleClosed(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	c := client(t)
	for i := range 50 {
		if res, body := do(t, c, "GET", "http://"+addr+"/", nil); res.StatusCode != 200 {
			t.Fatalf("GET %d: status %d %s", i, res.StatusCode, body)
		}
		a.CloseIdle(t)
	}
	if a.Count() != 50 {
		t.Errorf("the origin saw %d requests, want 50", a.Count())
	}
}

// stranger is an HTTPS server with a certificate that nobody trusts.
func stranger(t *testing.T) string {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// Every way in which an endpoint can fail has its status and error type.
func TestProxyStatus(t *testing.T) {
	raw := func(script func(c *testserver.Conn)) string {
		return testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
			if _, ok := c.Head(); ok {
				io.CopyN(io.Discard, c, 1) // an unread body would make the close a reset
				script(c)
			}
		}).Addr
	}
	silent := raw(func(c *testserver.Conn) { c.Rest() })
	for _, tt := range []struct {
		name, addr, proto string
		status            int
		error             string
	}{
		{"refused", testserver.FreeAddr(t), "", 502, "connection_refused"},
		{"closed", raw(func(*testserver.Conn) {}), "", 502, "connection_terminated"},
		{"reset", raw(func(c *testserver.Conn) { c.Reset() }), "", 502, "connection_terminated"},
		{"half a head", raw(func(c *testserver.Conn) { c.Send("HTTP/1.1 200 OK\r\nA: ") }), "", 502, "connection_terminated"},
		{"silent", silent, "", 504, "http_response_timeout"},
		{"silent inside the head", raw(func(c *testserver.Conn) { c.Send("HTTP/1.1 200 OK\r\nA: "); c.Rest() }), "", 504, "http_response_timeout"},
		{"no HTTP", raw(func(c *testserver.Conn) { c.Send("SSH-2.0-OpenSSH_9.9\r\n") }), "", 502, "http_protocol_error"},
		{"differing lengths", raw(func(c *testserver.Conn) {
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
		}), "", 502, "http_protocol_error"},
		{"head too large", raw(func(c *testserver.Conn) { c.Send("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 100<<10) + "\r\n\r\n") }), "", 502, "http_response_header_section_size"},
		{"endless 103", raw(func(c *testserver.Conn) {
			for range 100 {
				c.Send("HTTP/1.1 103 Early Hints\r\n\r\n")
			}
			c.Rest()
		}), "", 502, "http_protocol_error"},
		{"101 unasked", raw(func(c *testserver.Conn) {
			c.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
			c.Rest()
		}), "", 502, "http_upgrade_failed"},
		{"no such host", "no-such-host.invalid:80", "", 502, "dns_error"},
		{"plain where TLS was announced", testserver.New(t, "a").Addr, "https", 502, "tls_protocol_error"},
		{"certificate of a stranger", stranger(t), "https", 502, "tls_certificate_error"},
		{"not HTTP by its announcement", silent, "tcp", 502, "proxy_configuration_error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := endpoint("a", tt.addr)
			e.Proto = tt.proto
			plan := sole(e)
			plan.Services[0].Timeout = proxy.ServiceTimeout{Response: 500 * time.Millisecond, Connect: 20 * time.Second}
			p, addr := start(t, proxy.Config{}, plan)
			res, body := do(t, client(t), "POST", "http://"+addr+"/", strings.NewReader("x"))
			if res.StatusCode != tt.status || proxyError(res) != tt.error {
				t.Errorf("status %d, error %q, want %d and %q", res.StatusCode, proxyError(res), tt.status, tt.error)
			}
			if len(res.Header.Get("X-Request-Id")) != 32 || !strings.Contains(body, ".") || strings.Contains(body, tt.addr) {
				t.Errorf("fields %v, body %q: want an id, a reason and no address", res.Header, body)
			}
			if s := settled(t, p).Services[0]; s.Errors != 1 || s.Requests != 1 {
				t.Errorf("status %+v, want one request, one error", s)
			}
		})
	}
}
