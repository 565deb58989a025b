// This file runs once per request.

package balance

import (
	"math/rand/v2"
	"slices"
	"time"
)

// A Service is what a table knows of a service. It never changes.
type Service struct {
	Name  string
	Stats *Stats

	// Settings, which [NewService] leaves at their defaults.
	Connect      time.Duration // how long connecting may take; 1s
	Response     time.Duration // how long an upstream may be silent; 30s
	Stream       time.Duration // the same within an event stream; 1h
	Tunnel       time.Duration // how long both sides of a tunnel may be silent; 1h
	MaxBody      int64         // bytes of a request's body; zero: no limit
	ResponseHead int           // bytes of an answer's head; 64 KiB
	Host         string        // that requests get in place of theirs; empty: none
	OwnHost      bool          // in its place they get the address of the endpoint
	MaxConns     int           // requests that an upstream may have at a time; zero: any number
	QueueSize    int           // requests that may wait until one has fewer; zero: none
	QueueTime    time.Duration // how long they wait; 1s

	members []*Upstream
	weights []uint64 // of members
	sums    []uint64 // of weights up to and with each; nil where all are equal
}

// A Member is an upstream and its share of the requests beside the others.
type Member struct {
	*Upstream
	Weight int
}

// NewService returns a service that chooses among members, which it does not
// keep. Those of weight
// zero, and those that are not [Up] now, never get a new request.
func NewService(name string, stats *Stats, members []Member) *Service {
	s := &Service{
		Name: name, Stats: stats, members: make([]*Upstream, 0, len(members)), weights: make([]uint64, 0, len(members)),
		Connect: time.Second, Response: 30 * time.Second, Stream: time.Hour, Tunnel: time.Hour, ResponseHead: 64 << 10, QueueTime: time.Second,
	}
	equal := true
	for _, m := range members {
		if m.Weight <= 0 || m.State() != Up {
			continue
		}
		s.members = append(s.members, m.Upstream)
		s.weights = append(s.weights, uint64(m.Weight))
		equal = equal && uint64(m.Weight) == s.weights[0]
	}
	if !equal {
		s.sums = make([]uint64, len(s.weights))
		var sum uint64
		for i, w := range s.weights {
			sum += w
			s.sums[i] = sum
		}
	}
	return s
}

// draws is how many pairs are drawn before all members are looked at.
const draws = 4

// Pick returns the less loaded of two upstreams drawn at random, each as likely
// as its weight says; load is requests in flight for each unit of weight. It
// returns nil where no upstream takes requests, and none of tried, nor one that
// has as many as it may. One that fails its probe is only picked when all that
// take requests fail.
func (s *Service) Pick(tried []*Upstream) *Upstream {
	if len(s.members) == 0 {
		return nil
	}
	for range draws {
		i, j := s.draw()
		a, b := s.usable(i, tried), s.usable(j, tried)
		switch {
		case a && b && s.lessLoaded(j, i), b && !a:
			return s.members[j]
		case a:
			return s.members[i]
		}
	}
	return s.search(tried)
}

// draw returns two members: different ones where all weights are equal and
// there are two; otherwise each by its weight, so that even without any load
// the shares are right.
func (s *Service) draw() (i, j int) {
	n := len(s.members)
	if s.sums == nil {
		i = rand.IntN(n)
		if n == 1 {
			return i, i
		}
		if j = rand.IntN(n - 1); j >= i {
			j++
		}
		return i, j
	}
	return s.drawOne(), s.drawOne()
}

func (s *Service) drawOne() int {
	at := rand.Uint64N(s.sums[len(s.sums)-1]) + 1
	i, _ := slices.BinarySearch(s.sums, at)
	return i
}

// lessLoaded reports whether member i has less in flight for its weight than j.
func (s *Service) lessLoaded(i, j int) bool {
	return s.members[i].inFlight.Load()*int64(s.weights[j]) < s.members[j].inFlight.Load()*int64(s.weights[i])
}

// usable reports whether member i may get a request: it is up, passes its
// probe, was not tried and has fewer than it may.
func (s *Service) usable(i int, tried []*Upstream) bool {
	u := s.members[i]
	return u.State() == Up && u.failing.Load() == nil && !s.full(u) && !slices.Contains(tried, u)
}

// full reports whether u has as many requests as it may.
func (s *Service) full(u *Upstream) bool {
	return s.MaxConns > 0 && u.inFlight.Load() >= int64(s.MaxConns)
}

// busy reports whether an upstream that takes requests has as many as it may.
func (s *Service) busy() bool {
	return slices.ContainsFunc(s.members, func(u *Upstream) bool { return u.State() == Up && s.full(u) })
}

// search looks at all members, from a random one on: the least loaded that is
// usable, or of those that fail where every one that is up fails.
func (s *Service) search(tried []*Upstream) *Upstream {
	passing, failing := -1, -1
	someonePasses := false
	n := len(s.members)
	from := rand.IntN(n)
	for k := range n {
		i := (from + k) % n
		u := s.members[i]
		if u.State() != Up {
			continue
		}
		best := &passing
		if u.failing.Load() != nil {
			best = &failing
		} else {
			someonePasses = true
		}
		if !s.full(u) && !slices.Contains(tried, u) && (*best < 0 || s.lessLoaded(i, *best)) {
			*best = i
		}
	}
	switch {
	case passing >= 0:
		return s.members[passing]
	case !someonePasses && failing >= 0:
		return s.members[failing]
	}
	return nil
}
