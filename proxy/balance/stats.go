// This file runs once per request.

package balance

import (
	"sync/atomic"
	"time"
)

// Stats are the counters of one service. They only grow, and outlive the tables.
type Stats struct {
	classes  [6]atomic.Uint64 // answers by hundreds; 0: the client went away first
	errors   atomic.Uint64
	retries  atomic.Uint64
	inFlight atomic.Int64
	queue    queue

	// Latency counts whole requests, but not tunnels.
	Latency Histogram
}

// Begin counts a request that begins.
func (s *Stats) Begin() { s.inFlight.Add(1) }

// Retry counts an attempt after the first.
func (s *Stats) Retry() { s.retries.Add(1) }

// Done counts the end of what Begin began. status is 0 where the client went
// away before an answer, and took 0 where the time says nothing.
func (s *Stats) Done(status int, took time.Duration) {
	s.inFlight.Add(-1)
	class := status / 100
	if class < 0 || class >= len(s.classes) {
		class = 5
	}
	s.classes[class].Add(1)
	if class == 5 {
		s.errors.Add(1)
	}
	if took > 0 {
		s.Latency.Observe(took)
	}
}

// Class is the number of answers from 100*class to 100*class+99; of class 0 the
// requests whose client went away first.
func (s *Stats) Class(class int) uint64 { return s.classes[class].Load() }

// Requests is the number of requests that have ended.
func (s *Stats) Requests() (n uint64) {
	for i := range s.classes {
		n += s.classes[i].Load()
	}
	return n
}

// Errors is the number of answers from 500 on, made here or by an endpoint.
func (s *Stats) Errors() uint64 { return s.errors.Load() }

// Retries is the number of attempts after the first of their request.
func (s *Stats) Retries() uint64 { return s.retries.Load() }

// InFlight is the number of requests that are running.
func (s *Stats) InFlight() int64 { return s.inFlight.Load() }

// A Tally counts requests by kind.
type Tally struct{ kinds [numKinds]atomic.Uint64 }

// Add counts one.
func (t *Tally) Add(k Kind) { t.kinds[k].Add(1) }

// Count is how many there were of a kind.
func (t *Tally) Count(k Kind) uint64 { return t.kinds[k].Load() }

// All calls yield with each kind that was counted.
func (t *Tally) All(yield func(Kind, uint64) bool) {
	for k := range t.kinds {
		if n := t.kinds[k].Load(); n > 0 && !yield(Kind(k), n) {
			return
		}
	}
}
