package soak_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A client sends one kind of traffic over one connection after the other.
type client struct {
	*soak
	name string // the first part of its ids
	rnd  *rand.Rand
	n    int

	history []string // what came on this connection before
}

func (c *client) next() request {
	c.n++
	return newRequest(c.rnd, fmt.Sprintf("%s-%d", c.name, c.n))
}

// patience bounds what must happen; nothing measures it.
const patience = 30 * time.Second

func (c *client) dial() (*net.TCPConn, bool) {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.wrong("connecting: %v", err)
		return nil, false
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn), true
}

// valid sends what is right, and takes no other answer than its own.
func (c *client) valid() {
	conn, ok := c.dial()
	if !ok {
		return
	}
	defer conn.Close()
	br := bufio.NewReader(conn)
	c.history = nil
	for range 1 + c.rnd.IntN(40) {
		batch := []request{c.next()}
		for c.rnd.IntN(4) == 0 && batch[len(batch)-1].pipelines() {
			batch = append(batch, c.next())
		}
		if !c.send(conn, br, batch) {
			return
		}
	}
}

// pipelines says that the connection surely goes on behind it.
func (r *request) pipelines() bool {
	return r.kind == kindBytes || r.kind == kindChunks || r.kind == kindHead || r.kind == kindHints
}

// send sends the requests of batch in one go and takes their answers. It reports
// whether the connection goes on.
func (c *client) send(conn *net.TCPConn, br *bufio.Reader, batch []request) bool {
	var out []byte
	last := &batch[len(batch)-1]
	for i := range batch {
		out = append(out, batch[i].head()...)
		if !batch[i].wait {
			out = append(out, batch[i].payload(c.rnd)...)
		}
	}
	step := len(out)
	c.history = append(c.history, time.Now().Format("05.000")+" sends")
	if c.rnd.IntN(10) == 0 {
		step = 1 + c.rnd.IntN(len(out))
	}
	// The answer may come while the request still goes out, and end it.
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for part := range slices.Chunk(out, step) {
			if _, err := conn.Write(part); err != nil {
				return
			}
		}
	})
	var waiting []byte
	if last.wait {
		waiting = last.payload(c.rnd)
	}
	proceed := func() { wg.Go(func() { _, _ = conn.Write(waiting) }) }
	for i := range batch {
		again, err := c.receive(conn, br, &batch[i], proceed)
		if err != nil {
			c.wrong("%s %s of %d bytes behind %s: %v\n%s", batch[i].id, batch[i].kind, batch[i].size, strings.Join(c.history, ", "), err, c.log.find(batch[i].id))
			conn.Close()
			return false
		}
		c.history = append(c.history, fmt.Sprintf("%s %s (%d of %d, %d bytes a write)", time.Now().Format("05.000"), batch[i].kind, i+1, len(batch), step))
		if !again {
			conn.Close()
			if i < len(batch)-1 {
				c.wrong("%s %s: the connection ended behind it, though others had come", batch[i].id, batch[i].kind)
			}
			return false
		}
	}
	return true
}

// receive takes the answer to r. proceed sends the body that waits.
func (c *client) receive(conn *net.TCPConn, br *bufio.Reader, r *request, proceed func()) (again bool, err error) {
	method := strings.Fields(r.head())[0]
	var res *http.Response
	hints := 0
	waits := r.wait
	for {
		if res, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
			return false, fmt.Errorf("no answer: %w", err)
		}
		if res.StatusCode == http.StatusContinue && waits {
			waits = false
			proceed()
			continue
		}
		if res.StatusCode == http.StatusEarlyHints {
			hints++
			if got, want := res.Header.Get("Link"), "</"+r.id+">"; got != want {
				return false, fmt.Errorf("a hint for %q", got)
			}
			continue
		}
		break
	}
	defer res.Body.Close()
	c.count(r.kind, res.StatusCode)
	status, ours := r.expected()
	switch {
	case res.StatusCode != status:
		return false, fmt.Errorf("status %d with %q, want %d", res.StatusCode, res.Header.Get("Proxy-Status"), status)
	case !slices.Equal(res.Header["X-Request-Id"], []string{r.id}):
		return false, fmt.Errorf("X-Request-Id is %q", res.Header["X-Request-Id"])
	case ours != (res.Header.Get("Proxy-Status") != ""):
		return false, fmt.Errorf("Proxy-Status is %q", res.Header.Get("Proxy-Status"))
	case !ours && res.Header.Get("X-Soak") != r.id, ours && res.Header.Get("X-Soak") != "":
		return false, fmt.Errorf("it is the answer to %q", res.Header.Get("X-Soak"))
	case r.kind == kindHints && hints != 1:
		return false, fmt.Errorf("%d hints, want 1", hints)
	}
	if r.kind == kindTunnel {
		return false, c.tunnel(conn, br, r)
	}
	body, err := io.ReadAll(res.Body)
	if r.kind == kindCut {
		if !errors.Is(err, io.ErrUnexpectedEOF) && err == nil {
			return false, errors.New("a part looks whole")
		}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("body: %w", err)
	}
	if want := r.answer(); !ours && !bytes.Equal(body, want) {
		return false, fmt.Errorf("body of %d bytes is not the one of %d bytes", len(body), len(want))
	}
	if want := r.trailer(); res.Trailer.Get("X-Sum") != want {
		return false, fmt.Errorf("trailer is %q, want %q", res.Trailer.Get("X-Sum"), want)
	}
	return !res.Close && !waits, nil
}

// expected is the status of the answer, and whether the proxy makes it.
func (r *request) expected() (status int, ours bool) {
	switch r.kind {
	case kindTunnel:
		return http.StatusSwitchingProtocols, false
	case kindEarly:
		return http.StatusRequestEntityTooLarge, false
	case kindDie, kindGarbage:
		return http.StatusBadGateway, true
	case kindSilent:
		return http.StatusGatewayTimeout, true
	}
	return http.StatusOK, false
}

// answer is the body that must come.
func (r *request) answer() []byte {
	switch r.kind {
	case kindHead, kindEarly:
		return nil
	case kindEcho:
		return r.body
	}
	return pattern(r.id, r.size)
}

func (r *request) trailer() string {
	if r.kind == kindChunks || r.kind == kindEcho && r.sums {
		return r.id
	}
	return ""
}

// tunnel sends bytes, ends its direction, and wants the same bytes and the end.
func (c *client) tunnel(conn *net.TCPConn, br *bufio.Reader, r *request) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if _, err := conn.Write(r.body); err == nil {
			_ = conn.CloseWrite()
		}
	})
	got, err := io.ReadAll(br)
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	if !bytes.Equal(got, r.body) {
		return fmt.Errorf("tunnel: %d bytes came, not the %d that went", len(got), len(r.body))
	}
	return nil
}

// aborting leaves at any point, in one of the ways there are.
func (c *client) aborting() {
	conn, ok := c.dial()
	if !ok {
		return
	}
	defer conn.Close()
	r := c.next()
	out := append([]byte(r.head()), r.payload(c.rnd)...)
	if c.rnd.IntN(2) == 0 {
		out = out[:c.rnd.IntN(len(out)+1)]
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _, _ = conn.Write(out) })
	leave := [...]func(){
		func() { _ = conn.SetLinger(0) }, // a reset
		func() { _ = conn.CloseWrite(); _, _ = io.Copy(io.Discard, conn) },
		func() {},
	}[c.rnd.IntN(3)]
	if n := c.rnd.IntN(4); n > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(time.Duration(c.rnd.IntN(20)) * time.Millisecond))
		_, _ = io.CopyN(io.Discard, conn, int64(c.rnd.IntN(n*20_000)))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
	}
	leave()
	conn.Close()
}

// hostile sends what servers disagree about, or a valid request with a few bytes
// changed. Whatever comes back must be HTTP, and nobody else's answer.
func (c *client) hostile() {
	conn, ok := c.dial()
	if !ok {
		return
	}
	var out []byte
	if c.rnd.IntN(2) == 0 {
		c.n++
		out = []byte(c.messages[c.rnd.IntN(len(c.messages))](fmt.Sprintf("%s-%d", c.name, c.n)))
	} else {
		r := c.next()
		out = append([]byte(r.head()), r.payload(c.rnd)...)
		for range 1 + c.rnd.IntN(3) {
			out = c.mutate(out, min(len(out), 300))
		}
	}
	fin := c.rnd.IntN(2) == 0
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	wg.Go(func() {
		if _, err := conn.Write(out); err == nil && fin {
			_ = conn.CloseWrite()
		}
	})
	// Some wait until the proxy has enough of them.
	if c.rnd.IntN(20) > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(time.Duration(c.rnd.IntN(500)) * time.Millisecond))
	}
	br := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return // a mutated HEAD makes nonsense of what follows
		}
		c.count("hostile", res.StatusCode)
		for _, name := range [...]string{"X-Soak", "X-Request-Id"} {
			if id := res.Header.Get(name); strings.HasPrefix(id, "valid-") {
				c.wrong("hostile %q got the answer to %q", out, id)
			}
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			return
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return
		}
	}
}

// mutate changes, doubles or takes out something within the first n bytes.
func (c *client) mutate(p []byte, n int) []byte {
	i := c.rnd.IntN(n)
	switch c.rnd.IntN(4) {
	case 0:
		p[i] = byte(c.rnd.IntN(256))
	case 1:
		p[i] = "\r\n\x00 :;,\t0"[c.rnd.IntN(9)]
	case 2:
		j := min(i+1+c.rnd.IntN(8), len(p))
		return append(p[:j:j], p[i:]...)
	case 3:
		j := min(i+1+c.rnd.IntN(8), len(p)-1)
		return append(p[:i:i], p[j:]...)
	}
	return p
}
