package portable

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
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
	var running sync.WaitGroup // requests, tunnels too: http.Server forgets those
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			e.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: how.Header,
		IdleTimeout:       how.Idle,
		MaxHeaderBytes:    how.Head,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(e.Log.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateActive {
				c.SetWriteDeadline(time.Time{}) // of the request before
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		srv.Close()
		cut()
		running.Wait()
		return err
	case <-ctx.Done():
	}
	e.drain(srv, &running, max(how.Drain, 0), cut)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// drain waits until nothing runs any more, but no longer than limit, and then
// cuts off what does.
func (e *Engine) drain(srv *http.Server, running *sync.WaitGroup, limit time.Duration, cut func()) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := srv.Shutdown(ctx)
	idle := make(chan struct{})
	go func() {
		running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		if err == nil {
			return
		}
	case <-ctx.Done():
	}
	cut()
	srv.Close()
	<-idle
}
