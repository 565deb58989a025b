// Package testserver has HTTP servers for tests to send requests to: an
// [Origin] that answers with its name and misbehaves on demand, and a [Raw] one
// whose every byte is scripted.
package testserver

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long waiting in a test lasts before it is a failure.
const Patience = 30 * time.Second

// An Origin is an HTTP server that answers by path:
//
//	/slow?for=100ms   its name, after that time
//	/hold             its name, once Release is called
//	/echo             the request's body, as it comes
//	/fields           the request line and fields it got, sorted, a line each
//	/status?code=500  its name, with that status
//	/bytes?n=1000     that many zeros, with a Content-Length
//	/die              nothing: it closes the connection when it has read the request
//	/reset            the same with a reset
//	/cut              a Content-Length of 100, 10 bytes, and the end
//	/ws               a WebSocket handshake, then an echo of bytes
//	/sse              an event at once, another for each Release, until the client leaves
//	/trailers         its name, and the trailer X-Sum
//	/hints            103 with a Link, then its name
//	anything else     its name
type Origin struct {
	Name string
	Addr string // host:port

	srv     *httptest.Server
	release chan struct{}

	mu     sync.Mutex // guards what follows
	seen   []Request
	held   int
	change chan struct{} // closed when seen or held changes
	conns  map[net.Conn]http.ConnState
	opened int
}

// A Request is what an origin was asked.
type Request struct {
	Method, Target, Host string
	Header               http.Header
	Body                 int64 // bytes that were read; only /echo and the default read any
}

// New starts an origin that the end of the test stops.
func New(t testing.TB, name string) *Origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, name, l)
}

// NewAt starts an origin on an address that must be free.
func NewAt(t testing.TB, name, addr string) *Origin {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, name, l)
}

func serve(t testing.TB, name string, l net.Listener) *Origin {
	o := &Origin{
		Name: name, Addr: l.Addr().String(), release: make(chan struct{}), change: make(chan struct{}),
		conns: make(map[net.Conn]http.ConnState),
	}
	o.srv = &httptest.Server{Listener: l, Config: &http.Server{Handler: o, ConnState: o.connState}}
	o.srv.Start()
	t.Cleanup(o.Close)
	return o
}

// Close stops the origin at once, connections too.
func (o *Origin) Close() {
	o.srv.CloseClientConnections()
	o.srv.Close()
}

// Release lets one held request go on. It waits until there is one.
func (o *Origin) Release(t testing.TB) {
	t.Helper()
	select {
	case o.release <- struct{}{}:
	case <-time.After(Patience):
		t.Fatalf("origin %s: nothing to release after %v", o.Name, Patience)
	}
}

// Seen is what the origin was asked, oldest first.
func (o *Origin) Seen() []Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.seen)
}

// Count is how often the origin was asked.
func (o *Origin) Count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.seen)
}

// Conns is how many connections were opened to the origin so far.
func (o *Origin) Conns() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.opened
}

// WaitSeen waits until the origin was asked n times.
func (o *Origin) WaitSeen(t testing.TB, n int) {
	t.Helper()
	o.wait(t, func() bool { return len(o.seen) >= n }, "%d requests", n)
}

// WaitHeld waits until n requests are held.
func (o *Origin) WaitHeld(t testing.TB, n int) {
	t.Helper()
	o.wait(t, func() bool { return o.held == n }, "%d held requests", n)
}

// CloseIdle closes every connection, as a server does whose keep-alive time is
// over. It waits until no request runs on any.
func (o *Origin) CloseIdle(t testing.TB) {
	t.Helper()
	idle := func() bool {
		for _, s := range o.conns {
			if s != http.StateIdle {
				return false
			}
		}
		return true
	}
	o.wait(t, idle, "only idle connections")
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		c.Close()
	}
}

func (o *Origin) wait(t testing.TB, until func() bool, what string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for {
		o.mu.Lock()
		ok, change := until(), o.change
		state := fmt.Sprintf("%d requests, %d held", len(o.seen), o.held)
		o.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-ctx.Done():
			t.Fatalf("origin %s: %s after %v, want %s", o.Name, state, Patience, fmt.Sprintf(what, args...))
		}
	}
}

// edit changes the origin's state and wakes those that wait for it.
func (o *Origin) edit(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	close(o.change)
	o.change = make(chan struct{})
}

func (o *Origin) connState(c net.Conn, s http.ConnState) {
	o.edit(func() {
		switch s {
		case http.StateNew:
			o.opened++
			o.conns[c] = s
		case http.StateClosed, http.StateHijacked:
			delete(o.conns, c)
		default:
			o.conns[c] = s
		}
	})
}

func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n int
	o.edit(func() {
		n = len(o.seen)
		o.seen = append(o.seen, Request{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header.Clone()})
	})
	w.Header().Set("X-Origin", o.Name)
	switch r.URL.Path {
	case "/slow":
		d, _ := time.ParseDuration(r.FormValue("for"))
		select {
		case <-time.After(d):
			io.WriteString(w, o.Name)
		case <-r.Context().Done():
		}
	case "/hold":
		if o.hold(r.Context()) {
			io.WriteString(w, o.Name)
		}
	case "/echo":
		o.echo(w, r, n)
	case "/fields":
		fields(w, r)
	case "/status":
		code, _ := strconv.Atoi(r.FormValue("code"))
		w.WriteHeader(code)
		io.WriteString(w, o.Name)
	case "/bytes":
		n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.CopyN(w, zeros{}, n)
	case "/die", "/reset":
		hang(w, r.URL.Path == "/reset")
	case "/cut":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "0123456789")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "/ws":
		webSocket(w, r)
	case "/sse":
		o.events(w, r)
	case "/trailers":
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, o.Name)
		w.Header().Set("X-Sum", "42")
	case "/hints":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, o.Name)
	default:
		read, _ := io.Copy(io.Discard, r.Body)
		o.edit(func() { o.seen[n].Body = read })
		io.WriteString(w, o.Name)
	}
}

// hold waits for Release; it reports false if the client left first.
func (o *Origin) hold(ctx context.Context) bool {
	o.edit(func() { o.held++ })
	defer o.edit(func() { o.held-- })
	select {
	case <-o.release:
		return true
	case <-ctx.Done():
		return false
	}
}

func (o *Origin) echo(w http.ResponseWriter, r *http.Request, n int) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	rc.Flush()
	buf := make([]byte, 32<<10)
	for {
		got, err := r.Body.Read(buf)
		o.edit(func() { o.seen[n].Body += int64(got) })
		w.Write(buf[:got])
		rc.Flush()
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func fields(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s\nHost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			fmt.Fprintf(w, "%s: %s\n", name, value)
		}
	}
}

func hang(w http.ResponseWriter, reset bool) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	if reset {
		c.(*net.TCPConn).SetLinger(0)
	}
	c.Close()
}

func webSocket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
		http.Error(w, "want a WebSocket handshake", http.StatusUpgradeRequired)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	rw.Flush()
	io.Copy(c, bufio.NewReader(rw))
}

func (o *Origin) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := 0; ; i++ {
		fmt.Fprintf(w, "data: %s %d\n\n", o.Name, i)
		http.NewResponseController(w).Flush()
		if !o.hold(r.Context()) {
			return
		}
	}
}

// zeros reads as '0' for ever.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}
