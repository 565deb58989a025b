package portable

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"muster/proxy/http1"
)

// A Listener is how one listener treats its clients. A zero is the default.
type Listener struct {
	Header    time.Duration // for the whole request head, from its first byte; 10s
	Body      time.Duration // between two reads of a body; 30s
	Idle      time.Duration // between two requests of a connection; 60s
	Write     time.Duration // while the client takes no byte of its answer; 30s
	Expect    time.Duration // until the body flows, when an endpoint says nothing to Expect: 100-continue; 1s
	HalfClose time.Duration // for an answer, when the client has ended its direction; 1s
	Drain     time.Duration // for running requests, once Serve shall end; 30s, negative: none

	Head      int // bytes of request line and fields; 32 KiB
	Target    int // bytes of a request's target; 8 KiB
	Fields    int // lines of a head; 128
	Requests  int // of one connection; no limit
	MinRate   int // bytes of a body that a client sends in a second it is waited for; none
	PerClient int // connections of one client, an IPv4 address or a /64 of IPv6; no limit

	Connections int // at a time; no limit

	Trusted []netip.Prefix // clients that are proxies: what they tell of theirs is kept
	Rules   http1.Rules    // but for Trusted in them, which is of the client
	Trace   bool           // TRACE passes
	Quiet   bool           // answers that are made here have no Proxy-Status
	Tells   bool           // answers of endpoints have one too
}

// trusts reports whether addr is that of a proxy in front.
func (l *Listener) trusts(addr netip.Addr) bool {
	for _, p := range l.Trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func (l Listener) defaults() Listener {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&l.Header, 10*time.Second)
	set(&l.Body, 30*time.Second)
	set(&l.Idle, 60*time.Second)
	set(&l.Write, 30*time.Second)
	set(&l.Expect, time.Second)
	set(&l.HalfClose, time.Second)
	set(&l.Drain, 30*time.Second)
	l.Head = cmp.Or(l.Head, 32<<10)
	l.Target = cmp.Or(l.Target, 8<<10)
	l.Fields = cmp.Or(l.Fields, http1.MaxRequestFields)
	return l
}

// What no setting names.
const (
	uploadGrace     = time.Second            // for an early answer, when the endpoint takes no more of the body
	tunnelHalf      = 30 * time.Second       // when one direction of a tunnel has ended
	discardTimeout  = time.Second            // for the rest of a body whose answer is complete
	discardMost     = 64 << 10               // bytes of it
	lingerSilence   = 2 * time.Second        // when the last answer was written
	lingerMost      = 10 * time.Second       //
	minRateGrace    = 5 * time.Second        // before a body's rate counts
	settleTime      = 50 * time.Millisecond  // for the upload, once the answer is complete
	watchAfter      = 100 * time.Millisecond // for an answer, until the client is watched for hanging up
	maxInterim      = 16                     // 1xx that a request may get
	maxInterimBytes = 32 << 10
)

// A serving is one call of Serve.
type serving struct {
	engine *Engine
	front  *Front
	base   context.Context // of what is dialled; ended when the rest is cut off

	draining atomic.Bool
	grace    time.Time // until when new connections may send their first request; written before draining
	running  *crowd    // requests, tunnels too
	conns    *crowd

	mu  sync.Mutex // guards all
	all map[*conn]struct{}
}

// Serve accepts connections from l until ctx ends. Then it closes l and the
// idle connections, lets running requests and tunnels finish for the drain
// time, cuts the rest off, and returns nil. Any other end is an error. Where there
// are as many connections as may be it accepts no other: clients wait in the queue
// of the system.
func (e *Engine) Serve(ctx context.Context, l net.Listener, front *Front) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s := &serving{engine: e, front: front, base: base, running: newCrowd(), conns: newCrowd(), all: make(map[*conn]struct{})}
	e.startSweeping()
	defer e.stopSweeping()
	served := make(chan error, 1)
	go func() { served <- s.accept(ctx, l) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		l.Close()
		<-served
	}
	if ctx.Err() != nil {
		err = nil
		// Everything that was accepted is known from here on.
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(front.how.Load().Drain, 0))
		s.drain(limit)
		cancel()
	}
	cut()
	s.each((*conn).cut)
	s.conns.wait(context.WithoutCancel(ctx))
	return err
}

func (s *serving) accept(ctx context.Context, l net.Listener) error {
	for {
		if s.front.full() && !s.pause(ctx, l) {
			return nil
		}
		c, err := l.Accept()
		if err != nil {
			return err
		}
		s.front.enter()
		s.conns.enter()
		cc := newConn(s, c)
		if cc.closed {
			cc.sock.Close()
			s.left(cc)
			continue
		}
		s.mu.Lock()
		s.all[cc] = struct{}{}
		s.mu.Unlock()
		go cc.serve()
	}
}

// pause waits until another connection may be accepted; not when ctx has ended.
func (s *serving) pause(ctx context.Context, l net.Listener) bool {
	s.engine.Log.Warn("as many connections as may be, accepting no more", "addr", l.Addr(), "connections", s.front.Open())
	for s.front.full() {
		select {
		case <-s.front.room:
		case <-ctx.Done():
			return false
		}
	}
	s.engine.Log.Info("accepting again", "addr", l.Addr())
	return true
}

// left is called when a connection has ended.
func (s *serving) left(c *conn) {
	s.mu.Lock()
	delete(s.all, c)
	s.mu.Unlock()
	s.front.leave(c.standing)
	s.conns.leave()
}

func (s *serving) each(do func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		do(c)
	}
}

// drainGrace is how long a connection may take to send its first request, and
// to take the end of its last answer.
const drainGrace = time.Second

// drain waits until nothing runs any more, or limit ends. What has just begun to
// ask is not dropped.
func (s *serving) drain(limit context.Context) {
	s.grace = time.Now().Add(drainGrace)
	s.draining.Store(true)
	s.each(func(c *conn) { c.sock.wake() }) // who waits for a request looks; all others read on
	grace := func() {
		ctx, cancel := context.WithTimeout(limit, drainGrace)
		defer cancel()
		s.conns.wait(ctx)
	}
	grace()
	s.running.wait(limit)
	grace()
}

// A crowd counts requests, tunnels too, or connections. Unlike a sync.WaitGroup
// it may grow from none while somebody waits.
type crowd struct {
	n    atomic.Int64
	left chan struct{} // holds one token when there may be none left
}

func newCrowd() *crowd { return &crowd{left: make(chan struct{}, 1)} }

func (c *crowd) enter() { c.n.Add(1) }

func (c *crowd) leave() {
	if c.n.Add(-1) == 0 {
		select {
		case c.left <- struct{}{}:
		default:
		}
	}
}

// wait returns when there is none, or ctx ends.
func (c *crowd) wait(ctx context.Context) {
	for c.n.Load() != 0 {
		select {
		case <-c.left:
		case <-ctx.Done():
			return
		}
	}
}
