package http1_test

import (
	"testing"

	"muster/proxy/http1"
)

// browser is a request as a browser sends it.
const browser = "GET /assets/app.js?v=3 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nReferer: https://www.example.com/\r\nCookie: session=0123456789abcdef\r\n\r\n"

const odd = "POST /%41.%42 HTTP/1.1\r\nHost: [::1]:80\r\nConnection: a, TE\r\nA: 1\r\nTE: trailers\r\nX.Forwarded-For: 1\r\nExpect: 100-continue\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"

// told is a request of a proxy in front.
const told = "GET /../a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1;proto=https, for=\"[::1]\"\r\nX-Forwarded-Proto: https\r\nVia: 1.1 b\r\nA_B: c\r\nX-Request-Id: abc\r\n\r\n"

const answer = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 200\r\nConnection: keep-alive\r\nETag: \"x\"\r\n\r\n"

func TestNoAllocations(t *testing.T) {
	var (
		req http1.Request
		res http1.Response
		c   http1.Chunks
		out = make([]byte, 0, 4096)
	)
	reply := http1.Reply{Minor: 1, RequestID: []byte("id"), Date: []byte("now")}
	chunked := []byte("5;a=\"b\"\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")
	for _, text := range []string{browser, odd, told, "GET http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n"} {
		buf := []byte(text)
		req.Rules = nil
		if text == told {
			req.Rules = loose
		}
		var hops [http1.MaxHops]http1.Span
		if n := testing.AllocsPerRun(100, func() {
			req.Reset()
			if _, f := req.Parse(buf, requestLimits); f == 0 {
				out = req.AppendHead(out[:0], buf, hop)
				out = req.AppendAnnounced(out, buf)
				req.Hops(buf, &hops)
			}
		}); n != 0 {
			t.Errorf("%.20q: %v allocations, want none", text, n)
		}
	}
	buf, announced := []byte(answer), []byte("X-Sum")
	if n := testing.AllocsPerRun(100, func() {
		res.Reset()
		res.Parse(buf, responseLimits, false)
		out = res.AppendHead(out[:0], buf, &reply)
	}); n != 0 {
		t.Errorf("an answer: %v allocations, want none", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		c.Reset()
		for p := chunked; !c.Done(); {
			_, n, f := c.Next(p)
			if c.Done() {
				out = c.AppendTrailers(out[:0], p, announced)
			}
			if p = p[n:]; f != 0 {
				t.Fatal(f)
			}
		}
	}); n != 0 {
		t.Errorf("chunks: %v allocations, want none", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	var r http1.Request
	buf := []byte(browser)
	out := make([]byte, 0, 4096)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		r.Parse(buf, requestLimits)
		out = r.AppendHead(out[:0], buf, hop)
	}
}

func BenchmarkResponse(b *testing.B) {
	var r http1.Response
	buf := []byte(answer)
	out := make([]byte, 0, 4096)
	reply := http1.Reply{Minor: 1, RequestID: []byte("id")}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		r.Parse(buf, responseLimits, false)
		out = r.AppendHead(out[:0], buf, &reply)
	}
}
