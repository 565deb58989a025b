package proxy

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"muster/proxy/portable"
)

// A listener is an open socket. Its settings can change while it stays open:
// whoever serves it takes connections from a share, and two shares never fight
// for the socket.
type listener struct {
	socket net.Listener
	plan   Listener // as it is served
	stop   func()   // ends the serving; nil before the first
	gate   *portable.Gate

	conns  chan net.Conn // accepted, not taken yet
	closed chan struct{}

	fullSaid time.Time // accept's
}

func newListener(socket net.Listener, plan Listener) *listener {
	return &listener{socket: socket, plan: plan, gate: portable.NewGate(), conns: make(chan net.Conn), closed: make(chan struct{})}
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
	for l.room(log) {
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
		l.gate.Enter()
		select {
		case l.conns <- c:
		case <-l.closed:
			c.Close()
			return
		}
	}
}

// fullSilence is how long the log says no more of a listener that is full: near
// its limit it is so, and no longer so, with every connection.
const fullSilence = 10 * time.Second

// room waits until another connection may be accepted. Until then clients wait
// in the queue of the system. It reports false when the listener is closed.
func (l *listener) room(log *slog.Logger) bool {
	say := false
	for l.gate.Full() {
		if now := time.Now(); now.Sub(l.fullSaid) >= fullSilence {
			say, l.fullSaid = true, now
			log.Warn("as many connections as may be, accepting no more", "addr", l.socket.Addr(), "connections", l.gate.Open())
		}
		select {
		case <-l.gate.Room():
		case <-l.closed:
			return false
		}
	}
	if say {
		log.Info("accepting again", "addr", l.socket.Addr())
	}
	return true
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
