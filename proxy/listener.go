package proxy

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"muster/proxy/portable"
)

// A listener is an open socket. Its settings can change while it is served.
type listener struct {
	net.Listener
	log   *slog.Logger
	plan  Listener // as it is served
	front *portable.Front
	stop  func() // ends the serving; nil before it

	failed atomic.Uint64 // times that accepting failed

	once   sync.Once
	closed chan struct{}
}

func newListener(socket net.Listener, log *slog.Logger, plan Listener, how portable.Listener) *listener {
	return &listener{Listener: socket, log: log, plan: plan, front: portable.NewFront(how), closed: make(chan struct{})}
}

// Close frees the address at once. What was served goes on.
func (l *listener) Close() error {
	l.once.Do(func() {
		if l.stop != nil {
			l.stop() // first, so that it is not for an error that accepting ends
		}
		close(l.closed)
		l.Listener.Close()
	})
	return nil
}

// Accept returns the next connection until the listener is closed. Where
// accepting fails, most likely for want of file descriptors, it waits and tries
// again.
func (l *listener) Accept() (net.Conn, error) {
	said := false
	for {
		c, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err == nil {
			if said {
				l.log.Info("accepting again", "addr", l.Addr())
			}
			return c, nil
		}
		l.failed.Add(1)
		if !said {
			l.log.Error("can't accept, trying again", "addr", l.Addr(), "err", err)
		}
		said = true
		select {
		case <-time.After(10 * time.Millisecond):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}
