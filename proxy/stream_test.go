package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/testserver"
	"muster/proxy"
)

const handshake = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// switched reads a 101 and checks its fields.
func switched(t *testing.T, c *testserver.Conn) {
	t.Helper()
	res := c.Response(t, "GET")
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(res.Header.Get("Connection"), "upgrade") ||
		res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || len(res.Header.Get("X-Request-Id")) != 32 {
		t.Fatalf("status %d, fields %v: want a switch to websocket", res.StatusCode, res.Header)
	}
}

func TestWebSocket(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	plan.Services[0].Timeout.Response = 50 * time.Millisecond // does not concern a tunnel
	p, addr := start(t, proxy.Config{}, plan)
	c := testserver.Dial(t, addr)
	c.Send(handshake + "early ") // bytes behind the handshake wait for the answer
	switched(t, c)
	buf := make([]byte, 6)
	for _, text := range []string{"early ", "bytes1", "bytes2"} {
		if text != "early " {
			time.Sleep(100 * time.Millisecond) // longer than the response timeout
			c.Send(text)
		}
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != text {
			t.Fatalf("echo %q, %v, want %q", buf, err, text)
		}
	}
	if st := p.Status(); st.InFlight != 1 || st.Services[0].Upstreams[0].InFlight != 1 {
		t.Errorf("in flight %d, want 1: the tunnel", st.InFlight)
	}
	c.CloseWrite()
	if rest, err := c.Rest(); rest != "" || err != nil {
		t.Errorf("after the end: %q, %v, want the end", rest, err)
	}
	await(t, "the tunnel's end", func() bool { return p.Status().InFlight == 0 })
	web := p.Status().Services[0]
	if web.Errors != 0 || web.Upstreams[0].Errors != 0 || web.Latency.Quantile(1) != 0 {
		t.Errorf("status %+v: want no error, and a tunnel's time not counted", web)
	}
}

// An upgrade that is refused is an ordinary answer, and the connection goes on.
func TestWebSocketRefused(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	c := testserver.Dial(t, addr)
	for range 2 {
		c.Send(strings.Replace(handshake, "/ws", "/status?code=403", 1))
		res := c.Response(t, "GET")
		if io.Copy(io.Discard, res.Body); res.StatusCode != 403 {
			t.Fatalf("status %d, want 403", res.StatusCode)
		}
	}
}

// await waits until what is true.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(testserver.Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s after %v", what, testserver.Patience)
		}
	}
}

// Each event arrives before the next is sent.
func TestServerSentEvents(t *testing.T) {
	a := testserver.New(t, "a")
	plan := sole(of(a)...)
	plan.Services[0].Timeout.Response = 50 * time.Millisecond // streams may be silent for longer
	p, addr := start(t, proxy.Config{}, plan)
	res, err := client(t).Get("http://" + addr + "/sse")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(res.Body)
	for i := range 5 {
		if i > 0 {
			time.Sleep(60 * time.Millisecond)
			a.Release(t)
		}
		line, err := lines.ReadString('\n')
		if want := fmt.Sprintf("data: a %d\n", i); line != want || err != nil {
			t.Fatalf("event %q, %v, want %q", line, err, want)
		}
		lines.ReadString('\n')
	}
	res.Body.Close() // the client leaves: so does the request upstream
	a.WaitHeld(t, 0)
	await(t, "end", func() bool { return p.Status().InFlight == 0 })
}

// Trailers go to clients that take them.
func TestTrailers(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	for _, te := range []string{"trailers", ""} {
		req, _ := http.NewRequest("GET", "http://"+addr+"/trailers", nil)
		want := ""
		if te != "" {
			req.Header.Set("TE", te)
			want = "42"
		}
		res, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if res.Body.Close(); string(body) != "a" || err != nil || res.Trailer.Get("X-Sum") != want {
			t.Errorf("TE %q: body %q, %v, trailers %v, want X-Sum: %s", te, body, err, res.Trailer, want)
		}
	}
}

func TestRequestTrailers(t *testing.T) {
	got := make(chan string, 1)
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		head, _ := c.Head()
		trailer, _ := c.Head() // the chunks have no empty line but the last
		got <- head + trailer
		c.Send("HTTP/1.1 204 No Content\r\n\r\n")
	})
	_, addr := start(t, proxy.Config{}, sole(endpoint("a", raw.Addr)))
	c := testserver.Dial(t, addr)
	c.Send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Forwarded-For\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 42\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
	if res := c.Response(t, "POST"); res.StatusCode != 204 {
		t.Fatalf("status %d", res.StatusCode)
	}
	if text := <-got; !strings.HasSuffix(text, "\r\n0\r\nX-Sum: 42\r\n\r\n") || !strings.Contains(text, "Trailer: X-Sum\r\n") {
		t.Errorf("the origin got\n%s\nwant the trailer X-Sum and no other", text)
	}
}

func TestEarlyHints(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	req, _ := http.NewRequest("GET", "http://"+addr+"/hints", nil)
	var hints []string
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		},
	}))
	res, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	if res.Body.Close(); res.StatusCode != 200 || string(body) != "a" || fmt.Sprint(hints) != "[103 </style.css>; rel=preload]" {
		t.Errorf("status %d, body %q, hints %q, want one 103 and a 200", res.StatusCode, body, hints)
	}
	// HTTP/1.0 has no interim answers.
	c := testserver.Dial(t, addr)
	c.Send("GET /hints HTTP/1.0\r\nHost: x\r\n\r\n")
	if text, err := c.Rest(); err != nil || !strings.HasPrefix(text, "HTTP/1.0 200") && !strings.HasPrefix(text, "HTTP/1.1 200") {
		t.Errorf("to HTTP/1.0: %q, %v, want the 200 first", text, err)
	}
}

// The endpoint answers while it is still being sent to.
func TestFullDuplex(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	c := testserver.Dial(t, addr)
	c.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	res := c.Response(t, "POST") // before a byte of the body was sent
	buf := make([]byte, 5)
	for i := range 10 {
		text := fmt.Sprintf("ping%d", i)
		c.Send("5\r\n" + text + "\r\n")
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != text {
			t.Fatalf("echo %q, %v, want %q", buf, err, text)
		}
	}
	c.Send("0\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n")
	if rest, err := io.ReadAll(res.Body); len(rest) != 0 || err != nil {
		t.Fatalf("rest %q, %v", rest, err)
	}
	if res := c.Response(t, "GET"); res.StatusCode != 200 {
		t.Errorf("next request of the connection: status %d", res.StatusCode)
	}
}

func TestExpectContinue(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	c := testserver.Dial(t, addr)
	c.Send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	head, _ := c.Head()
	if !strings.HasPrefix(head, "HTTP/1.1 100 ") {
		t.Fatalf("head %q, want a 100", head)
	}
	c.Send("body")
	res := c.Response(t, "POST")
	if body, err := io.ReadAll(res.Body); string(body) != "a" || err != nil || a.Seen()[0].Body != 4 {
		t.Errorf("body %q, %v; the origin got %+v, want 4 bytes", body, err, a.Seen())
	}
}

// An answer that breaks off breaks off at the client too.
func TestTruncated(t *testing.T) {
	chunked := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		c.Head()
		c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	})
	silent := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		c.Head()
		c.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		c.Rest()
	})
	a := testserver.New(t, "a")
	for _, tt := range []struct{ name, addr, error string }{
		{"length", a.Addr, "http_response_incomplete"},
		{"chunked", chunked.Addr, "http_response_incomplete"},
		{"silent", silent.Addr, "connection_read_timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := new(lines)
			plan := sole(endpoint("a", tt.addr))
			plan.AccessLog = "json"
			plan.Services[0].Timeout.Response = 300 * time.Millisecond
			p, addr := start(t, proxy.Config{AccessLog: log}, plan)
			c := testserver.Dial(t, addr)
			c.Send("GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
			res := c.Response(t, "GET")
			body, err := io.ReadAll(res.Body)
			if res.StatusCode != 200 || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("status %d, body %q, %v, want it cut off", res.StatusCode, body, err)
			}
			if line := log.wait(t, 1); !strings.Contains(line, `"error":"`+tt.error+`"`) {
				t.Errorf("access log %s, want %s", line, tt.error)
			}
			if u := settled(t, p).Services[0].Upstreams[0]; u.Errors != 1 || u.InFlight != 0 {
				t.Errorf("upstream %+v, want one error", u)
			}
		})
	}
}

func TestHTTP10(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	c := testserver.Dial(t, addr)
	c.Send("GET /bytes?n=10 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	res := c.Response(t, "GET")
	if body, err := io.ReadAll(res.Body); string(body) != "0000000000" || err != nil || res.Close {
		t.Fatalf("body %q, %v, close %v, want 10 bytes and keep-alive", body, err, res.Close)
	}
	c.Send("GET /fields HTTP/1.0\r\nConnection: keep-alive\r\nX: 1\r\n\r\n")
	res = c.Response(t, "GET")
	body, _ := io.ReadAll(res.Body)
	got := strings.Split(string(body), "\n")
	if want := []string{"GET /fields HTTP/1.1", "Host: " + a.Addr, "X: 1", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"}; len(got) != 7 || !slices.Equal(got[:5], want) {
		t.Errorf("without a Host the origin got %q, want %q and an ID", got, want)
	}
	c.Send("GET /trailers HTTP/1.0\r\n\r\n")
	if text, err := c.Rest(); err != nil || !strings.HasSuffix(text, "\r\n\r\na") || strings.Contains(text, "chunked") {
		t.Errorf("answer of unknown length: %q, %v, want it until the end, not chunked", text, err)
	}
}

// A handshake that is none is served as a plain request.
func TestNoHandshake(t *testing.T) {
	a := testserver.New(t, "a")
	_, addr := start(t, proxy.Config{}, sole(of(a)...))
	for name, request := range map[string]string{
		"POST":              strings.Replace(handshake, "GET /ws", "POST /", 1),
		"HTTP/1.0":          strings.Replace(handshake, "/ws HTTP/1.1", "/ HTTP/1.0", 1),
		"other protocol":    strings.Replace(strings.Replace(handshake, "websocket", "h2c", 1), "/ws", "/", 1),
		"two protocols":     strings.Replace(strings.Replace(handshake, "websocket", "websocket, h2c", 1), "/ws", "/", 1),
		"not in Connection": strings.Replace(strings.Replace(handshake, ", Upgrade", ", Upgraded", 1), "/ws", "/", 1),
		"with a body":       strings.Replace(handshake, "/ws HTTP/1.1\r\n", "/ HTTP/1.1\r\nContent-Length: 0005\r\n", 1) + "hello",
	} {
		c := testserver.Dial(t, addr)
		c.Send(request)
		res := c.Response(t, "GET")
		seen := a.Seen()
		h := seen[len(seen)-1].Header
		if res.StatusCode != 200 || h["Upgrade"] != nil || h["Connection"] != nil {
			t.Errorf("%s: status %d, the origin got %v, want a request without Upgrade", name, res.StatusCode, h)
		}
	}
}

// A head or a trailer section may begin anywhere in what is read into, at its
// very end too.
func TestBeginsAtTheEndOfABuffer(t *testing.T) {
	const small, large = 4 << 10, 32 << 10 // about what is read at once, of requests and of answers
	const more = 5000
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		for {
			head, ok := c.Head()
			if !ok {
				return
			}
			n := 0
			fmt.Sscanf(head, "GET /?n=%d ", &n)
			var chunks string
			for _, size := range [...]int{n, 1, more} {
				chunks += fmt.Sprintf("%x\r\n%s\r\n", size, strings.Repeat("x", size))
			}
			c.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n%s0\r\nX-Sum: %d\r\n\r\n", chunks, n))
		}
	})
	_, addr := start(t, proxy.Config{}, sole(endpoint("a", raw.Addr)))
	c := testserver.Dial(t, addr)
	ask := func(size, pad int) string {
		head := fmt.Sprintf("GET /?n=%d HTTP/1.1\r\nHost: a.test\r\nConnection: TE\r\nTE: trailers\r\nX-Pad: ", size)
		return head + strings.Repeat("p", max(pad-len(head)-4, 1)) + "\r\n\r\n"
	}
	got := func(size int, what string) {
		t.Helper()
		res := c.Response(t, "GET")
		body, err := io.ReadAll(res.Body)
		if want := size + 1 + more; err != nil || len(body) != want || res.Trailer.Get("X-Sum") != strconv.Itoa(size) {
			t.Fatalf("%s: %d bytes, trailer %q, %v, want %d and %d", what, len(body), res.Trailer.Get("X-Sum"), err, want, size)
		}
	}
	for end := small - 200; end <= small+20; end++ {
		c.Send(ask(1, end) + ask(2, 0))
		got(1, fmt.Sprintf("a request of %d bytes", end))
		got(2, fmt.Sprintf("a request behind one of %d bytes", end))
	}
	for _, near := range [...]int{large - more, large} { // where a chunk ends, and where the trailers begin
		for size := near - 300; size <= near+20; size++ {
			c.Send(ask(size, 0))
			got(size, fmt.Sprintf("an answer of %d bytes", size))
		}
	}
}
