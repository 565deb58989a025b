package balance

import (
	"sync"
	"sync/atomic"
)

// A queue is where requests wait until an upstream of their service may have
// another. Who has waited longest is told first.
type queue struct {
	waiting atomic.Int64

	mu          sync.Mutex // guards what follows
	first, last *Place
}

// A Place is a request's place in a queue.
type Place struct {
	queue      *queue
	ready      chan struct{} // holds a token when it is worth to try
	next, prev *Place
}

// Queue gives a request a place, nil where the service has none left or no queue.
func (s *Service) Queue() *Place {
	q := &s.Stats.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting.Load() >= int64(s.QueueSize) {
		return nil
	}
	q.waiting.Add(1)
	p := &Place{queue: q, ready: make(chan struct{}, 1), prev: q.last}
	if q.last != nil {
		q.last.next = p
	} else {
		q.first = p
		p.ready <- struct{}{} // an upstream may have become free just before
	}
	q.last = p
	return p
}

// Ready says when it is worth to choose an upstream: [Attempts.Renew] then chooses
// or finds that it was in vain.
func (p *Place) Ready() <-chan struct{} { return p.ready }

// Leave gives the place up. The next in the queue is told: there may be more than
// one free.
func (p *Place) Leave() {
	q := p.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	wasFirst := q.first == p
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		q.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		q.last = p.prev
	}
	q.waiting.Add(-1)
	if wasFirst {
		q.tell()
	}
}

// tell tells the first. The lock is held.
func (q *queue) tell() {
	if q.first == nil {
		return
	}
	select {
	case q.first.ready <- struct{}{}:
	default:
	}
}

// Freed says that an upstream has one request less.
func (s *Service) Freed() {
	if s.MaxConns == 0 {
		return
	}
	s.Stats.Wake()
}

// Wake has the first that waits try again.
func (s *Stats) Wake() {
	if s.queue.waiting.Load() == 0 {
		return
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.queue.tell()
}

// Queued is how many requests wait for an upstream.
func (s *Stats) Queued() int64 { return s.queue.waiting.Load() }
