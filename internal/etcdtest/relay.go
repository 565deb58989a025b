package etcdtest

import (
	"io"
	"net"
	"sync"
	"testing"

	"muster/internal/freeport"
)

// A Relay listens on loopback and forwards every connection to one address,
// until it is told to break. Its methods may be called at any time.
type Relay struct {
	tb           testing.TB
	addr, target string
	wg           sync.WaitGroup

	mu       sync.Mutex // guards what follows
	listener net.Listener
	conns    map[net.Conn]struct{} // both sides
	hole     bool
	closed   bool
}

// NewRelay forwards to target until the test ends.
func NewRelay(tb testing.TB, target string) *Relay {
	tb.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		tb.Fatalf("etcdtest: relay: %v", err)
	}
	r := &Relay{tb: tb, addr: addr, target: target, conns: make(map[net.Conn]struct{})}
	r.Heal()
	tb.Cleanup(func() {
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
		r.Refuse()
		r.wg.Wait()
	})
	return r
}

// Addr is where the relay listens, host:port.
func (r *Relay) Addr() string { return r.addr }

// Conns is how many connections are forwarded now.
func (r *Relay) Conns() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns) / 2
}

// Cut resets the connections that are there now and takes new ones.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut()
}

// Refuse resets the connections that are there and refuses new ones until Heal.
func (r *Relay) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		r.listener.Close()
		r.listener = nil
	}
	r.cut()
	r.hole = false
}

// Blackhole swallows what is sent, in both directions, and keeps connections
// open and opening, until Heal. What went into the hole is gone: Heal cuts the
// connections that lived through it.
func (r *Relay) Blackhole() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hole = true
}

// Heal forwards again.
func (r *Relay) Heal() {
	r.tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hole {
		r.cut()
		r.hole = false
	}
	if r.listener != nil || r.closed {
		return
	}
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.tb.Errorf("etcdtest: relay: %v", err)
		return
	}
	r.listener = l
	r.wg.Go(func() { r.accept(l) })
}

func (r *Relay) cut() {
	for c := range r.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, not a polite end
		}
		c.Close()
	}
}

func (r *Relay) accept(l net.Listener) {
	for {
		from, err := l.Accept()
		if err != nil {
			return // closed by Refuse
		}
		if r.keep(from, l) {
			r.wg.Go(func() { r.forward(from, l) })
		}
	}
}

// keep remembers c for cut, unless l is not the listener any more.
func (r *Relay) keep(c net.Conn, l net.Listener) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != l {
		c.Close()
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *Relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	c.Close()
}

func (r *Relay) forward(from net.Conn, l net.Listener) {
	defer r.drop(from)
	to, err := net.Dial("tcp", r.target)
	if err != nil || !r.keep(to, l) {
		return
	}
	defer r.drop(to)
	var wg sync.WaitGroup
	pipe := func(dst, src net.Conn) {
		_, _ = io.Copy(holed{dst, r}, src)
		dst.Close()
		src.Close()
	}
	wg.Go(func() { pipe(from, to) })
	wg.Go(func() { pipe(to, from) })
	wg.Wait()
}

// A holed drops what is written to it while the relay has a hole.
type holed struct {
	net.Conn
	relay *Relay
}

func (h holed) Write(p []byte) (int, error) {
	h.relay.mu.Lock()
	hole := h.relay.hole
	h.relay.mu.Unlock()
	if hole {
		return len(p), nil
	}
	return h.Conn.Write(p)
}
