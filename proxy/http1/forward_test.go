package http1_test

import (
	"strings"
	"testing"

	"muster/proxy/http1"
)

// ours are the fields that every forwarded request for h has.
const ours = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Request-Id: id\r\n\r\n"

// What goes to an endpoint for what came (RFC 9110, section 7.6; RFC 9112).
func TestRequestHead(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing is added", get(""), "GET / HTTP/1.1\r\nHost: h\r\n" + ours},
		{
			"end-to-end fields, in order, as they are", get("b: 1\r\nA:  2 \r\nC:\r\nB: \x80\r\nCookie: a\r\nCookie: b\r\nRange: x\r\nAuthorization: y\r\n"),
			"GET / HTTP/1.1\r\nHost: h\r\nb: 1\r\nA: 2\r\nC: \r\nB: \x80\r\nCookie: a\r\nCookie: b\r\nRange: x\r\nAuthorization: y\r\n" + ours,
		},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: endpoint:81\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Request-Id: id\r\n\r\n"},
		{"HTTP/1.9", "GET / HTTP/1.9\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n" + ours},
		{"target byte for byte", target("//a%2f;b|c?%zz?"), "GET //a%2f;b|c?%zz? HTTP/1.1\r\nHost: h\r\n" + ours},
		{"absolute", target("HTTP://h/a?b"), "GET /a?b HTTP/1.1\r\nHost: h\r\n" + ours},
		{"absolute without a path", target("http://h"), "GET / HTTP/1.1\r\nHost: h\r\n" + ours},
		{"absolute, query only", target("http://h?a"), "GET /?a HTTP/1.1\r\nHost: h\r\n" + ours},
		{"absolute asterisk", "OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n" + ours},
		{"length", get("Content-Length:0012\r\nA: b\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nContent-Length: 12\r\n" + ours},
		{"chunked", get("Transfer-Encoding: CHUNKED\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + ours},
		{"hop by hop", get("Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nTE: gzip\r\nHTTP2-Settings: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"), "GET / HTTP/1.1\r\nHost: h\r\n" + ours},
		{"nominated", get("A: 1\r\nB: 2\r\nC: 3\r\nConnection: a\r\nConnection: , B ,keep-alive\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nC: 3\r\n" + ours},
		{"nominated before it comes", get("Connection: close, a\r\nA: 1\r\n"), "GET / HTTP/1.1\r\nHost: h\r\n" + ours},
		{"ours nominated", get("Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Request-Id, Host\r\n"), "GET / HTTP/1.1\r\nHost: h\r\n" + ours},
		{"framing nominated", get("Connection: Content-Length\r\nContent-Length: 3\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n" + ours},
		{"coding nominated", get("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + ours},
		{
			"forwarding fields of strangers", get("X-Forwarded-For: 1\r\nx-forwarded-proto: https\r\nX-Forwarded-Anything: 1\r\nForwarded: for=1\r\nX-Real-IP: 1\r\nX-Client-IP: 1\r\nX-Cluster-Client-IP: 1\r\nTrue-Client-IP: 1\r\nX-Request-Id: mine\r\n"),
			"GET / HTTP/1.1\r\nHost: h\r\n" + ours,
		},
		{
			"aliases", get("A_b: 1\r\nX_Forwarded_For: 1\r\nX.Forwarded.For: 1\r\nX.Forwarded.Something.Or.Other: 1\r\nContent.Length: 5\r\nTransfer!Encoding: x\r\nX+Cluster.Client-IP: x\r\nX.Request-Id: 1\r\nConnectio~n: 1\r\nHos.t: 1\r\nTe.: x\r\n"),
			"GET / HTTP/1.1\r\nHost: h\r\nConnectio~n: 1\r\nHos.t: 1\r\nTe.: x\r\n" + ours,
		},
		{"a symbol in a name that is nothing", get("a.b: 1\r\nX.Cluster.Client.IP.More: 2\r\n"), "GET / HTTP/1.1\r\nHost: h\r\na.b: 1\r\nX.Cluster.Client.IP.More: 2\r\n" + ours},
		{"rerouting", get("Proxy: x\r\nX-Original-URL: /\r\nX-Original-URI: /\r\nX-Rewrite-URL: /\r\nX-HTTP-Method-Override: PUT\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: PUT\r\n" + ours},
		{"trailers taken", get("TE: deflate, trailers\r\nConnection: TE\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nConnection: TE\r\nTE: trailers\r\n" + ours},
		{"upgrade", get("Connection: a, Upgrade\r\nA: 1\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + ours},
		{"expect", get("Expect: 100-Continue\r\nContent-Length: 1\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n" + ours},
		{"expect of nothing", get("Expect: 100-continue\r\n"), "GET / HTTP/1.1\r\nHost: h\r\n" + ours},
		{"trailer", get("Transfer-Encoding: chunked\r\nTrailer: X-Sum, X-Forwarded-For,Content-MD5\r\nTrailer: b, Host, A_b, If-X, vary, nominated, te(\r\nConnection: nominated\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, b\r\n" + ours},
		{"trailer of none that pass", get("Transfer-Encoding: chunked\r\nTrailer: Host\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + ours},
		{"trailer without chunks", get("Trailer: X-Sum\r\n"), "GET / HTTP/1.1\r\nHost: h\r\n" + ours},
		{"Max-Forwards", "OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 5\r\n\r\n", "OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 4\r\n" + ours},
		{"Max-Forwards of no number", "OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: x\r\n\r\n", "OPTIONS / HTTP/1.1\r\nHost: h\r\n" + ours},
		{"Max-Forwards of GET", get("Max-Forwards: 0\r\nMax-Forwards: x\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\nMax-Forwards: x\r\n" + ours},
		{"empty lines before", "\r\n\r\n" + get("A: b\r\n"), "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n" + ours},
	} {
		got, f := forward(tt.text)
		if f != 0 || got != tt.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.name, f, got, tt.want)
		}
	}
}

// What is written is right, and is written again the same.
func TestRequestHeadAgain(t *testing.T) {
	for _, row := range requestRows {
		if row.fault != 0 || strings.HasPrefix(row.name, "limits") {
			continue
		}
		once, _ := forward(row.text)
		twice, f := forward(once) // a Host that we added is one the second time
		again, g := forward(twice)
		if f != 0 || g != 0 || twice != again {
			t.Errorf("%s: %v, %v\n%s\nwas\n%s", row.name, f, g, again, twice)
		}
		if !strings.HasSuffix(once, "\r\n\r\n") || strings.Count(once, "\r\n\r\n") != 1 {
			t.Errorf("%s: not one head:\n%s", row.name, once)
		}
	}
}

// What goes to a client for what an endpoint answered.
func TestResponseHead(t *testing.T) {
	end := "X-Request-Id: id\r\n\r\n"
	date := "Date: now\r\n"
	for _, tt := range []struct {
		name, text string
		reply      http1.Reply
		want       string
	}{
		{"plain", "HTTP/1.1 200 OK\r\nContent-Length: 05\r\nServer: x\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 200 OK\r\nServer: x\r\n" + date + "Content-Length: 5\r\n" + end},
		{"of HTTP/1.0", "HTTP/1.0 404 Not  Found\r\nContent-Length: 5\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 404 Not  Found\r\n" + date + "Content-Length: 5\r\n" + end},
		{"no reason", "HTTP/1.1 200\r\ncontent-length: 5\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 200 \r\n" + date + "Content-Length: 5\r\n" + end},
		{"its date", "HTTP/1.1 204 No Content\r\nDate: then\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 204 No Content\r\nDate: then\r\n" + end},
		{"equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 05\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\n" + end},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n" + end},
		{"until close to HTTP/1.0", "HTTP/1.1 200 OK\r\n\r\n", http1.Reply{Close: true}, "HTTP/1.1 200 OK\r\n" + date + "Connection: close\r\n" + end},
		{"chunked to HTTP/1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n", http1.Reply{Close: true, Trailers: true}, "HTTP/1.1 200 OK\r\n" + date + "Connection: close\r\n" + end},
		{"kept for HTTP/1.0", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", http1.Reply{KeepAlive: true}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\nConnection: keep-alive\r\n" + end},
		{"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 304 Not Modified\r\n" + date + "Content-Length: 5\r\n" + end},
		{"204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 204 No Content\r\n" + date + end},
		{"trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, Set-Cookie\r\n\r\n", http1.Reply{Minor: 1, Trailers: true}, "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\nTrailer: A\r\n" + end},
		{"trailers not taken", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n" + end},
		{
			"hop by hop", "HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nX-Request-Id: theirs\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nA_b: c\r\nContent-Length: 0\r\n\r\n",
			http1.Reply{Minor: 1},
			"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nA_b: c\r\n" + date + "Content-Length: 0\r\n" + end,
		},
		{"103", "HTTP/1.1 103 Early Hints\r\nLink: a\r\nConnection: b\r\nB: c\r\nContent-Length: 5\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, a\r\nUpgrade: WebSocket\r\nA: b\r\nSec-WebSocket-Accept: x\r\n\r\n", http1.Reply{Minor: 1}, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n" + end},
	} {
		var r http1.Response
		r.Reset()
		buf := []byte(tt.text)
		if n, f := r.Parse(buf, responseLimits, false); f != 0 || n != len(buf) {
			t.Errorf("%s: %d, %v", tt.name, n, f)
			continue
		}
		tt.reply.RequestID, tt.reply.Date = []byte("id"), []byte("now")
		if got := string(r.AppendHead(nil, buf, &tt.reply)); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}
