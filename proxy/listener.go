package proxy

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// A listener is an open socket. Its settings can change while it stays open:
// whoever serves it takes connections from a share, and two shares never fight
// for the socket.
type listener struct {
	socket net.Listener
	plan   Listener // as it is served
	stop   func()   // ends the serving; nil before the first

	conns  chan net.Conn // accepted, not taken yet
	closed chan struct{}
}

func newListener(socket net.Listener, plan Listener) *listener {
	return &listener{socket: socket, plan: plan, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// close frees the address at once. What was served goes on.
func (l *listener) close() {
	close(l.closed)
	l.socket.Close()
	if l.stop != nil {
		l.stop()
	}
}

// accept hands out connections until the listener is closed. Where accepting
// fails, most likely for want of file descriptors, it waits and tries again.
func (l *listener) accept(log *slog.Logger) {
	said := false
	for {
		c, err := l.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !said {
				log.Error("can't accept, trying again", "addr", l.socket.Addr(), "err", err)
			}
			said = true
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-l.closed:
				return
			}
		}
		if said {
			log.Info("accepting again", "addr", l.socket.Addr())
			said = false
		}
		select {
		case l.conns <- c:
		case <-l.closed:
			c.Close()
			return
		}
	}
}

// A share is a net.Listener of a listener's connections. Closing it leaves the
// socket open.
type share struct {
	*listener
	once sync.Once
	done chan struct{}
}

func (l *listener) share() *share { return &share{listener: l, done: make(chan struct{})} }

func (s *share) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *share) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *share) Addr() net.Addr { return s.socket.Addr() }
