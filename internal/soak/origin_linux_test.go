package soak_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// silence is longer than the proxy waits for an answer.
const silence = 20 * time.Second

// An origin does what the requests of this package ask for, and notes what
// should not have come.
type origin struct {
	addr string
	l    net.Listener
	wg   sync.WaitGroup
	test *soak

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newOrigin(t testing.TB, test *soak) *origin {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: l.Addr().String(), l: l, test: test, conns: make(map[net.Conn]struct{})}
	o.wg.Go(o.accept)
	return o
}

func (o *origin) accept() {
	for {
		c, err := o.l.Accept()
		if err != nil {
			return
		}
		o.mu.Lock()
		o.conns[c] = struct{}{}
		o.mu.Unlock()
		o.wg.Go(func() {
			o.serve(c)
			c.Close()
			o.mu.Lock()
			delete(o.conns, c)
			o.mu.Unlock()
		})
	}
}

// close ends every connection, and waits.
func (o *origin) close() {
	o.l.Close()
	o.mu.Lock()
	for c := range o.conns {
		c.Close()
	}
	o.mu.Unlock()
	o.wg.Wait()
}

func (o *origin) serve(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		o.test.saw(req)
		if !o.answer(c, br, req) {
			return
		}
	}
}

// answer reports whether the connection goes on.
func (o *origin) answer(c net.Conn, br *bufio.Reader, req *http.Request) bool {
	kind := strings.TrimPrefix(req.URL.Path, "/")
	id := req.Header.Get("X-Soak")
	n, _ := strconv.Atoi(req.URL.Query().Get("n"))
	n = min(max(n, 0), 1<<20) // a hostile one may say anything
	head := "HTTP/1.1 200 OK\r\nX-Soak: " + id + "\r\n"
	switch kind {
	case kindDie:
		return false
	case kindSilent:
		_ = c.SetReadDeadline(time.Now().Add(silence))
		_, _ = br.ReadByte()
		return false
	case kindGarbage:
		_, _ = io.WriteString(c, "200 OK HTTP/1.1\r\nX-Soak: "+id+"\r\n\r\n")
		return false
	case kindCut:
		_, _ = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, n+1, pattern(id, n))
		return false
	case kindClosing:
		_, _ = fmt.Fprintf(c, "%sConnection: close\r\n\r\n%s", head, pattern(id, n))
		return false
	case kindEarly:
		_, _ = fmt.Fprintf(c, "HTTP/1.1 413 Content Too Large\r\nX-Soak: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", id)
		if half, ok := c.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		_ = c.SetReadDeadline(time.Now().Add(silence))
		_, _ = io.Copy(io.Discard, br)
		return false
	case kindTunnel:
		if _, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nX-Soak: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", id); err != nil {
			return false
		}
		_, _ = io.Copy(c, br)
		return false
	case kindEcho:
		return o.echo(c, head, req)
	case kindHints:
		if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </"+id+">\r\n\r\n"); err != nil {
			return false
		}
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return false
	}
	var err error
	switch {
	case kind == kindChunks:
		_, err = fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n", head)
		p := pattern(id, n)
		for len(p) > 0 && err == nil {
			part := p[:min(len(p), 1+len(p)/2)]
			_, err = fmt.Fprintf(c, "%x\r\n%s\r\n", len(part), part)
			p = p[len(part):]
		}
		if err == nil {
			_, err = fmt.Fprintf(c, "0\r\nX-Sum: %s\r\n\r\n", id)
		}
	case req.Method == http.MethodHead:
		_, err = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", head, n)
	default:
		_, err = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, n, pattern(id, n))
	}
	return err == nil && !req.Close
}

// echo sends the body back while it comes.
func (o *origin) echo(c net.Conn, head string, req *http.Request) bool {
	if req.Header.Get("Expect") != "" {
		if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return false
		}
	}
	if req.ContentLength >= 0 {
		if _, err := fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", head, req.ContentLength); err != nil {
			return false
		}
		n, err := io.Copy(c, req.Body)
		return err == nil && n == req.ContentLength && !req.Close
	}
	if _, err := fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n", head); err != nil {
		return false
	}
	p := make([]byte, 8<<10)
	for {
		n, err := req.Body.Read(p)
		if n > 0 {
			if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", n, p[:n]); err != nil {
				return false
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false
		}
	}
	_, err := fmt.Fprintf(c, "0\r\nX-Sum: %s\r\n\r\n", req.Trailer.Get("X-Sum"))
	return err == nil && !req.Close
}
