package proxy

import (
	"fmt"
	"slices"
	"time"

	"muster/proxy/balance"
)

// A Status is what the proxy is doing, for people and programs that look at it.
// It is a copy; making one costs the requests nothing.
type Status struct {
	Ready     bool            `json:"ready"`
	Listeners []string        `json:"listeners"` // addresses, with the port that was taken
	Routes    []RouteStatus   `json:"routes"`
	Services  []ServiceStatus `json:"services"`
	Refused   map[int]uint64  `json:"refused"` // answers made here without a service, by status
	InFlight  int64           `json:"in_flight"`
}

// A RouteStatus is one route as it is in force.
type RouteStatus struct {
	Match   string   `json:"match"` // HOST/PATH
	Service string   `json:"service"`
	Source  string   `json:"source"`
	Shadows []string `json:"shadows,omitempty"`
}

// A ServiceStatus is one service and its endpoints. Counters only grow.
type ServiceStatus struct {
	Name      string           `json:"name"`
	Exposed   bool             `json:"exposed"` // a route leads to it
	Requests  uint64           `json:"requests"`
	Errors    uint64           `json:"errors"`  // answers made here (502, 503, 504) and 5xx of endpoints
	Retries   uint64           `json:"retries"` //
	InFlight  int64            `json:"in_flight"`
	Latency   Latency          `json:"latency"` // whole requests
	Upstreams []UpstreamStatus `json:"upstreams"`
}

// An UpstreamStatus is the running state of one endpoint. Counters only grow.
type UpstreamStatus struct {
	ID       string  `json:"id"`
	Addr     string  `json:"addr"`
	State    string  `json:"state"` // up, starting, draining, failing, leaving (gone from the store, requests still running)
	Reason   string  `json:"reason,omitempty"`
	Weight   int     `json:"weight"`
	Requests uint64  `json:"requests"`
	Errors   uint64  `json:"errors"` // no answer, or a 5xx
	InFlight int64   `json:"in_flight"`
	Latency  Latency `json:"latency"`
}

// A Latency is a histogram of durations since the process started; two of them,
// taken at different times, give the quantiles of the time between.
type Latency struct {
	Buckets []uint64      `json:"-"` // counts; see [Latency.Quantile]
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
}

// Quantile is the duration that the fraction q of those counted does not exceed,
// to within an eighth; zero where none was counted.
func (l Latency) Quantile(q float64) time.Duration { return balance.Quantile(l.Buckets, q) }

func (l Latency) String() string { return fmt.Sprintf("p50 %v p99 %v", l.P50, l.P99) }

// Since is what was counted after earlier, a Latency of the same thing.
func (l Latency) Since(earlier Latency) Latency {
	counts := slices.Clone(l.Buckets)
	for i := range min(len(counts), len(earlier.Buckets)) {
		counts[i] -= earlier.Buckets[i]
	}
	return newLatency(counts)
}

func newLatency(counts []uint64) Latency {
	return Latency{Buckets: counts, P50: balance.Quantile(counts, 0.5), P99: balance.Quantile(counts, 0.99)}
}

// Status returns what the proxy is doing.
func (p *Proxy) Status() Status {
	addrs := p.Addrs()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep()
	st := Status{
		Ready: p.plan.Ready, Listeners: addrs, InFlight: p.engine.InFlight(), Refused: make(map[int]uint64),
		Routes: make([]RouteStatus, 0, len(p.plan.Routes)), Services: make([]ServiceStatus, 0, len(p.order)),
	}
	for kind, n := range p.tally.All {
		st.Refused[kind.Answer().Status] += n
	}
	exposed := make(map[string]bool)
	for _, r := range p.plan.Routes {
		exposed[r.Service] = true
		st.Routes = append(st.Routes, RouteStatus{Match: r.String(), Service: r.Service, Source: r.Source, Shadows: r.Shadows})
	}
	leaving := make(map[string][]*upstream)
	for _, u := range p.leaving {
		leaving[u.Service] = append(leaving[u.Service], u)
	}
	for _, s := range p.order {
		status := s.status()
		status.Exposed = exposed[status.Name]
		for _, u := range leaving[status.Name] {
			status.Upstreams = append(status.Upstreams, u.status())
		}
		st.Services = append(st.Services, status)
	}
	return st
}

func (s *service) status() ServiceStatus {
	st := ServiceStatus{
		Name: s.plan.Name, Requests: s.stats.Requests(), Errors: s.stats.Errors(), Retries: s.stats.Retries(),
		InFlight: s.stats.InFlight(), Latency: newLatency(s.stats.Latency.Buckets()),
		Upstreams: make([]UpstreamStatus, 0, len(s.upstreams)),
	}
	for _, u := range s.upstreams {
		st.Upstreams = append(st.Upstreams, u.status())
	}
	return st
}

func (u *upstream) status() UpstreamStatus {
	state, reason := u.condition()
	return UpstreamStatus{
		ID: u.ID, Addr: u.Addr, State: state, Reason: reason, Weight: u.endpoint.Weight,
		Requests: u.Requests(), Errors: u.Errors(), InFlight: u.InFlight(), Latency: newLatency(u.Latency().Buckets()),
	}
}

// condition is the state of an upstream in one word, and why.
func (u *upstream) condition() (state, reason string) {
	if reason = u.Failing(); reason != "" && u.State() == balance.Up {
		return "failing", reason
	}
	switch u.State() {
	case balance.Starting, balance.Draining:
		reason = "its announcement says so"
	case balance.Leaving:
		reason = "gone from the store; requests are still running"
	default:
		reason = ""
	}
	return u.State().String(), reason
}
