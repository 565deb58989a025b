package portable

import (
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"

	"muster/proxy/http1"
)

// mostTurnedAway is how many connections of clients that have too many may wait
// for their answer; further ones are closed without.
const mostTurnedAway = 64

// A Front is how the clients of a listener are treated, which may change while it
// is served, and how many there are.
type Front struct {
	how atomic.Pointer[manner]

	mu      sync.Mutex // guards what follows
	open    int
	clients map[netip.Prefix]int // connections, where they are limited
	turning int                  // connections that are turned away now
	turned  uint64
	room    chan struct{} // holds a token when full may have become false
}

// A manner is a Listener, made ready for connections.
type manner struct {
	Listener
	limits http1.Limits
	rules  [2]*http1.Rules // for strangers, and for proxies in front
}

// NewFront returns the front of a listener that is not served yet.
func NewFront(l Listener) *Front {
	f := &Front{clients: make(map[netip.Prefix]int), room: make(chan struct{}, 1)}
	f.Set(l)
	return f
}

// Set has connections go by l from their next request on.
func (f *Front) Set(l Listener) {
	l = l.defaults()
	m := &manner{Listener: l, limits: http1.Limits{Head: l.Head, Target: l.Target, Fields: l.Fields}}
	if !reflect.ValueOf(l.Rules).IsZero() {
		m.rules[0] = &m.Rules
	}
	trusted := l.Rules
	trusted.Trusted = true
	m.rules[1] = &trusted
	f.how.Store(m)
	f.nudge()
}

func (f *Front) nudge() {
	select {
	case f.room <- struct{}{}:
	default:
	}
}

// enter counts a connection that was accepted.
func (f *Front) enter() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
}

// leave counts the end of one.
func (f *Front) leave(s standing) {
	f.forget(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
	f.nudge()
}

// full reports whether no other connection may be accepted.
func (f *Front) full() bool {
	most := f.how.Load().Connections
	return most > 0 && f.Open() >= most
}

// Open is how many connections there are.
func (f *Front) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// TurnedAway is how many connections their client had too many of.
func (f *Front) TurnedAway() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turned
}

// A standing is how a connection stands with the limit of its client.
type standing struct {
	client netip.Prefix // where it counts
	many   bool         // it is to be turned away
	closed bool         // and gets no answer
}

// judge counts a connection of addr, whose client may have most of them: an
// address of IPv4, or a network of the size that one host of IPv6 has.
func (f *Front) judge(addr netip.Addr, most int) (s standing) {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	client, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return s // not of the internet
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clients[client] < most {
		f.clients[client]++
		s.client = client
		return s
	}
	f.turned++
	s.many, s.closed = true, f.turning >= mostTurnedAway
	if !s.closed {
		f.turning++
	}
	return s
}

// forget is the end of what judge counted.
func (f *Front) forget(s standing) {
	if !s.client.IsValid() && !s.many {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch n := f.clients[s.client]; {
	case s.many && !s.closed:
		f.turning--
	case s.many:
	case n > 1:
		f.clients[s.client] = n - 1
	default:
		delete(f.clients, s.client)
	}
}
