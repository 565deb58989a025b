package portable

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A Listener is how one listener treats its clients. A zero is the default.
type Listener struct {
	Header time.Duration // for the whole request head, from its first byte; 10s
	Body   time.Duration // between two reads of a body; 30s
	Idle   time.Duration // between two requests of a connection; 60s
	Head   int           // bytes of request line and fields; 32 KiB
	Drain  time.Duration // for running requests, once Serve shall end; 30s, negative: none
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
	set(&l.Drain, 30*time.Second)
	if l.Head == 0 {
		l.Head = 32 << 10
	}
	return l
}

type bodyTimeoutKey struct{}

// bodyTimeout is the Body of the listener that r came by.
func bodyTimeout(r *http.Request) time.Duration {
	return r.Context().Value(bodyTimeoutKey{}).(time.Duration)
}

// Serve accepts connections from l until ctx ends. Then it closes l and the
// idle connections, lets running requests and tunnels finish for the drain
// time, cuts the rest off, and returns nil. Any other end is an error.
func (e *Engine) Serve(ctx context.Context, l net.Listener, how Listener) error {
	how = how.defaults()
	// Requests outlive ctx while they drain; this one cuts them off.
	base, cut := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), bodyTimeoutKey{}, how.Body))
	defer cut()
	running, conns := newCrowd(), newCrowd()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			running.enter()
			defer running.leave()
			e.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: how.Header,
		IdleTimeout:       how.Idle,
		MaxHeaderBytes:    how.Head,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(e.Log.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				conns.enter()
			case http.StateActive:
				c.SetWriteDeadline(time.Time{}) // of the request before
			case http.StateClosed, http.StateHijacked:
				conns.leave()
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		l.Close()
		<-served // everything that was accepted is known to srv from here on
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(how.Drain, 0))
		drain(limit, srv, running, conns)
		cancel()
	}
	cut()
	srv.Close()
	running.wait(context.WithoutCancel(ctx))
	return err
}

// drainGrace is how long a connection may take to send its first request, and
// to take the end of its last answer.
const drainGrace = time.Second

// drain waits until nothing runs any more, or limit ends. It is no
// [http.Server.Shutdown], because that drops a request whose head it has just
// read, on a new connection too, and forgets tunnels.
func drain(limit context.Context, srv *http.Server, running, conns *crowd) {
	srv.SetKeepAlivesEnabled(false) // closes what is idle, the others after their answer
	grace := func() {
		ctx, cancel := context.WithTimeout(limit, drainGrace)
		defer cancel()
		conns.wait(ctx)
	}
	grace()
	running.wait(limit)
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
