package testserver

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"muster/internal/freeport"
)

// A Raw is a server whose connections are scripted, for tests where the bytes
// matter.
type Raw struct {
	Addr string // host:port

	l      net.Listener
	mu     sync.Mutex // guards conns
	conns  map[net.Conn]bool
	opened int
	wg     sync.WaitGroup
}

// NewRaw starts a server that runs script for each connection, n counting them
// from 0, and closes it afterwards. The end of the test closes all.
func NewRaw(t testing.TB, script func(c *Conn, n int)) *Raw {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Raw{Addr: l.Addr().String(), l: l, conns: make(map[net.Conn]bool)}
	r.wg.Go(func() { r.accept(script) })
	t.Cleanup(r.close)
	return r
}

func (r *Raw) accept(script func(*Conn, int)) {
	for {
		c, err := r.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			panic(err)
		}
		r.mu.Lock()
		n := r.opened
		r.opened++
		r.conns[c] = true
		r.mu.Unlock()
		r.wg.Go(func() {
			script(&Conn{Conn: c, r: bufio.NewReader(c)}, n)
			c.Close()
			r.mu.Lock()
			delete(r.conns, c)
			r.mu.Unlock()
		})
	}
}

// Conns is how many connections were opened so far.
func (r *Raw) Conns() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opened
}

func (r *Raw) close() {
	r.l.Close()
	r.mu.Lock()
	for c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// A Conn is one end of a connection in a script.
type Conn struct {
	net.Conn
	r *bufio.Reader
}

// Dial connects to a server. The end of the test closes the connection.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(Patience))
	t.Cleanup(func() { c.Close() })
	return &Conn{Conn: c, r: bufio.NewReader(c)}
}

func (c *Conn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Send writes text as it is. Where the other side is gone, reading will show.
func (c *Conn) Send(text string) { io.WriteString(c.Conn, text) }

// CloseWrite ends one direction.
func (c *Conn) CloseWrite() { c.Conn.(*net.TCPConn).CloseWrite() }

// Head reads one message head, the empty line included. It returns what came
// where the connection ended first.
func (c *Conn) Head() (head string, ok bool) {
	for {
		line, err := c.r.ReadString('\n')
		head += line
		if err != nil {
			return head, false
		}
		if line == "\r\n" {
			return head, true
		}
	}
}

// Response reads one response, of which only the head has been read then.
func (c *Conn) Response(t testing.TB, method string) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("response to %s: %v", method, err)
	}
	return res
}

// Rest reads until the connection ends, and how.
func (c *Conn) Rest() (string, error) {
	b, err := io.ReadAll(c.r)
	return string(b), err
}

// Silence reads and writes nothing until the test ends.
func (c *Conn) Silence(t testing.TB) { <-t.Context().Done() }

// Reset ends the connection with a reset.
func (c *Conn) Reset() {
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// FreeAddr is an address that nobody listens on, nor will by chance.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
