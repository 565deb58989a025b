package portable

import (
	"net/netip"
	"sync"
)

// mostTurnedAway is how many connections of clients that have too many may wait
// for their answer; further ones are closed without.
const mostTurnedAway = 64

// A Gate counts the connections of one address, whoever serves them: as settings
// change, [Engine.Serve] is called again for it.
type Gate struct {
	mu      sync.Mutex // guards what follows
	open    int
	clients map[netip.Prefix]int // connections, where they are limited
	turning int                  // connections that are turned away now
	turned  uint64
	most    int           // that may be open; zero: any number
	room    chan struct{} // holds a token when there may be room
}

// NewGate returns a gate that nobody has passed.
func NewGate() *Gate {
	return &Gate{clients: make(map[netip.Prefix]int), room: make(chan struct{}, 1)}
}

// Limit says how many connections may be open; zero: any number. Those that are
// too many stay.
func (g *Gate) Limit(most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = most
	g.nudge()
}

// Enter counts a connection that was accepted.
func (g *Gate) Enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open++
}

// Leave counts the end of one. [Engine.Serve] calls it for those that it got.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	g.nudge()
}

func (g *Gate) nudge() {
	select {
	case g.room <- struct{}{}:
	default:
	}
}

// Room has a token when [Gate.Full] may have become false.
func (g *Gate) Room() <-chan struct{} { return g.room }

// Full reports whether no other connection may be accepted.
func (g *Gate) Full() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most > 0 && g.open >= g.most
}

// Open is how many connections there are.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// TurnedAway is how many connections their client had too many of.
func (g *Gate) TurnedAway() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.turned
}

// A standing is how a connection stands with the limit of its client.
type standing struct {
	client netip.Prefix // where it counts
	many   bool         // it is to be turned away
	closed bool         // and gets no answer
}

// judge counts a connection of addr, whose client may have most of them: an
// address of IPv4, or a network of the size that one host of IPv6 has.
func (g *Gate) judge(addr netip.Addr, most int) (s standing) {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	client, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return s // not of the internet
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.clients[client] < most {
		g.clients[client]++
		s.client = client
		return s
	}
	g.turned++
	s.many, s.closed = true, g.turning >= mostTurnedAway
	if !s.closed {
		g.turning++
	}
	return s
}

// forget is the end of what judge counted.
func (g *Gate) forget(s standing) {
	if !s.client.IsValid() && !s.many {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch n := g.clients[s.client]; {
	case s.many && !s.closed:
		g.turning--
	case s.many:
	case n > 1:
		g.clients[s.client] = n - 1
	default:
		delete(g.clients, s.client)
	}
}
