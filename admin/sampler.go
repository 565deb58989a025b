package admin

import (
	"context"
	"sync"
	"time"

	"muster/proxy"
)

const (
	// every is how often the balancer is asked. Where one answer takes long,
	// for many thousand endpoints, it is asked as seldom as keeps that below
	// one part in maxShare of the time.
	every    = time.Second
	maxShare = 50

	remembered = 60 // samples of history: a minute
	window     = 10 // samples that rates and quantiles are of

	// maxEndpoints bounds memory and page: those beyond it are counted only.
	maxEndpoints = 2000
)

// A sampler asks the balancer once a second and remembers a minute.
type sampler struct {
	balancer Balancer

	mu      sync.Mutex // guards what follows
	number  uint64     // of samples taken
	at      time.Time
	last    proxy.Status
	omitted int             // endpoints beyond maxEndpoints
	rows    map[rowKey]*row // the zero key is the sum of all services
	newer   chan struct{}   // closed when the next sample is taken
	view    *view           // of the last sample; nil until somebody asks
}

// A rowKey names what is counted: an endpoint, or with only the service set a
// service.
type rowKey struct{ service, id, addr string }

func newSampler(b Balancer) *sampler {
	return &sampler{balancer: b, rows: make(map[rowKey]*row), newer: make(chan struct{})}
}

func (s *sampler) run(ctx context.Context) {
	wait := every
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		start := time.Now()
		s.sample(start)
		wait = max(every-time.Since(start), maxShare*time.Since(start))
	}
}

// sample takes one.
func (s *sampler) sample(now time.Time) {
	status := s.balancer.Overview(maxEndpoints)
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.at
	s.number++
	s.at, s.last, s.view, s.omitted = now, status, nil, 0
	all := s.row(rowKey{}, remembered)
	sum := all.newest()
	sum.at, sum.inFlight = now, 0
	latency := all.newestLatency()
	for i := range status.Services {
		svc := &status.Services[i]
		r := s.row(rowKey{service: svc.Name}, window)
		delta, latencyDelta := r.add(before, point{now, svc.Requests, svc.Errors, svc.InFlight}, svc.Latency)
		sum.requests += delta.requests
		sum.errors += delta.errors
		sum.inFlight += svc.InFlight
		latency = plus(latency, latencyDelta)
		for _, u := range svc.Upstreams {
			r := s.row(rowKey{svc.Name, u.ID, u.Addr}, window)
			r.add(before, point{now, u.Requests, u.Errors, u.InFlight}, u.Latency)
		}
		for _, n := range svc.More {
			s.omitted += n
		}
	}
	all.push(sum, latency)
	for key, r := range s.rows {
		if r.newest().at != now {
			delete(s.rows, key)
		}
	}
	close(s.newer)
	s.newer = make(chan struct{})
}

func (s *sampler) row(key rowKey, latencies int) *row {
	r := s.rows[key]
	if r == nil {
		r = &row{latencies: latencies + 1}
		s.rows[key] = r
	}
	return r
}

// A row remembers the counters of one thing, the newest last.
type row struct {
	points    []point         // at most remembered + 1
	latency   []proxy.Latency // the newest of them; at most latencies
	latencies int
}

// A point is what the counters said at one time.
type point struct {
	at               time.Time
	requests, errors uint64
	inFlight         int64
}

func (r *row) newest() point {
	if len(r.points) == 0 {
		return point{}
	}
	return r.points[len(r.points)-1]
}

func (r *row) newestLatency() proxy.Latency {
	if len(r.latency) == 0 {
		return proxy.Latency{}
	}
	return r.latency[len(r.latency)-1]
}

// add pushes a point and returns what was added since the one before. before is
// the time of the sample before this one, zero for the first: a thing that
// appears later began to count then, and so did one whose counters went back.
func (r *row) add(before time.Time, p point, l proxy.Latency) (delta point, latency proxy.Latency) {
	last := r.newest()
	switch {
	case before.IsZero():
		r.push(p, l)
		return point{}, proxy.Latency{}
	case len(r.points) == 0, p.requests < last.requests, p.errors < last.errors:
		r.points, r.latency = r.points[:0], r.latency[:0]
		last = point{at: before}
		r.push(last, proxy.Latency{})
	}
	if p.requests == last.requests && len(r.latency) > 0 {
		l = r.newestLatency() // the same counts, without another copy of them
	}
	delta = point{requests: p.requests - last.requests, errors: p.errors - last.errors}
	latency = minus(l, r.newestLatency())
	r.push(p, l)
	return delta, latency
}

func (r *row) push(p point, l proxy.Latency) {
	r.points = pushed(r.points, p, remembered+1)
	r.latency = pushed(r.latency, l, r.latencies)
}

// pushed appends to a slice that keeps its newest n elements.
func pushed[E any](s []E, e E, n int) []E {
	if len(s) < n {
		return append(s, e)
	}
	copy(s, s[1:])
	s[len(s)-1] = e
	return s
}

// plus and minus are the histograms of both times and of the time between.
func plus(a, b proxy.Latency) proxy.Latency {
	switch {
	case len(b.Buckets) == 0:
		return a
	case len(a.Buckets) == 0:
		return b
	}
	sum := make([]uint64, max(len(a.Buckets), len(b.Buckets)))
	copy(sum, a.Buckets)
	for i, n := range b.Buckets {
		sum[i] += n
	}
	return proxy.Latency{Buckets: sum}
}

func minus(a, b proxy.Latency) proxy.Latency {
	switch {
	case len(b.Buckets) == 0:
		return a
	case len(a.Buckets) == len(b.Buckets) && &a.Buckets[0] == &b.Buckets[0]:
		return proxy.Latency{} // the same copy
	}
	diff := make([]uint64, len(a.Buckets))
	copy(diff, a.Buckets)
	for i, n := range b.Buckets {
		if i < len(diff) {
			diff[i] -= min(n, diff[i])
		}
	}
	return proxy.Latency{Buckets: diff}
}
