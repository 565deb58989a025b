package proxy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"muster/proxy/balance"
	"muster/proxy/portable"
)

// A Status is what the proxy is doing, for people and programs that look at it.
// It is a copy; making one costs the requests nothing, and keeps no [Proxy.Update]
// waiting.
type Status struct {
	Ready     bool            `json:"ready"`
	Listeners []string        `json:"listeners"` // addresses, with the port that was taken
	Routes    []RouteStatus   `json:"routes"`
	Services  []ServiceStatus `json:"services"`
	Refused   map[int]uint64  `json:"refused"` // answers made here without a service, by status
	InFlight  int64           `json:"in_flight"`

	// Settings are those that listeners have set, by address.
	Settings map[string]map[string]Setting `json:"settings,omitempty"`
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
	Name      string             `json:"name"`
	Exposed   bool               `json:"exposed"` // a route leads to it
	Requests  uint64             `json:"requests"`
	Errors    uint64             `json:"errors"`  // answers made here (502, 503, 504) and 5xx of endpoints
	Retries   uint64             `json:"retries"` //
	InFlight  int64              `json:"in_flight"`
	Queued    int64              `json:"queued,omitempty"` // of those in flight: they wait for an endpoint
	Latency   Latency            `json:"latency"`          // whole requests
	Upstreams []UpstreamStatus   `json:"upstreams"`
	Settings  map[string]Setting `json:"settings,omitempty"` // those that are set
	More      map[string]int     `json:"more,omitempty"`     // by state: upstreams that are not listed, see [Proxy.Overview]
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

// Ready is false before the first snapshot.
func (p *Proxy) Ready() bool {
	t := p.table.Load()
	return t != nil && t.Ready()
}

// Status returns what the proxy is doing.
func (p *Proxy) Status() Status { return p.Overview(math.MaxInt) }

// Overview is Status with no more than most upstreams in it: those of the
// services after them are counted by their state. Where there are 100,000 it
// costs a hundredth.
func (p *Proxy) Overview(most int) Status {
	v := p.view()
	st := Status{
		Ready: v.ready, Listeners: make([]string, 0, len(v.listeners)), InFlight: p.engine.InFlight(), Refused: make(map[int]uint64),
		Routes: make([]RouteStatus, 0, len(v.routes)), Services: make([]ServiceStatus, 0, len(v.services)),
	}
	for kind, n := range p.tally.All {
		st.Refused[kind.Answer().Status] += n
	}
	for _, l := range v.listeners {
		st.Listeners = append(st.Listeners, l.addr)
		if settings := l.plan.settings(); settings != nil {
			if st.Settings == nil {
				st.Settings = make(map[string]map[string]Setting)
			}
			st.Settings[l.addr] = settings
		}
	}
	exposed := make(map[string]bool)
	for _, r := range v.routes {
		exposed[r.Service] = true
		st.Routes = append(st.Routes, RouteStatus{Match: r.String(), Service: r.Service, Source: r.Source, Shadows: r.Shadows})
	}
	for _, s := range v.services {
		status := s.status(most, v.leaving[s.plan.Name])
		status.Exposed = exposed[status.Name]
		most -= len(status.Upstreams)
		st.Services = append(st.Services, status)
	}
	return st
}

// A view is what the proxy stands at, to be looked at without its lock: what it
// points to does not change, but for counters and states.
type view struct {
	ready     bool
	listeners []listenerView
	routes    []Route
	services  []serviceView
	leaving   map[string][]*upstream // by service
	all       int                    // upstreams of services
}

type listenerView struct {
	addr  string
	plan  Listener // as it is served
	front *portable.Front
	fails uint64 // times that accepting failed
}

type serviceView struct {
	plan      *Service
	stats     *balance.Stats
	upstreams []*upstream
}

func (p *Proxy) view() view {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := view{ready: p.plan.Ready, routes: p.plan.Routes, services: make([]serviceView, 0, len(p.order)), leaving: make(map[string][]*upstream)}
	for l := range p.opened {
		v.listeners = append(v.listeners, listenerView{l.Addr().String(), l.plan, l.front, l.failed.Load()})
	}
	for _, s := range p.order {
		v.services = append(v.services, serviceView{s.plan, s.stats, s.upstreams})
		v.all += len(s.upstreams)
	}
	for _, u := range p.left {
		if u.Idle() {
			continue // it may come back, but nobody sees it meanwhile
		}
		v.leaving[u.Service] = append(v.leaving[u.Service], u.upstream)
	}
	for _, some := range v.leaving {
		slices.SortFunc(some, func(a, b *upstream) int {
			return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Addr, b.Addr))
		})
	}
	return v
}

// status lists no more than most upstreams.
func (s serviceView) status(most int, leaving []*upstream) ServiceStatus {
	st := ServiceStatus{
		Name: s.plan.Name, Requests: s.stats.Requests(), Errors: s.stats.Errors(), Retries: s.stats.Retries(),
		InFlight: s.stats.InFlight(), Queued: s.stats.Queued(), Settings: s.plan.settings(),
		Upstreams: make([]UpstreamStatus, 0, min(most, len(s.upstreams)+len(leaving))),
	}
	if st.Requests > 0 { // somebody looks every second, at 1,000 services
		st.Latency = newLatency(s.stats.Latency.Buckets())
	}
	for _, some := range [][]*upstream{s.upstreams, leaving} {
		for _, u := range some {
			if len(st.Upstreams) < most {
				st.Upstreams = append(st.Upstreams, u.status())
				continue
			}
			if st.More == nil {
				st.More = make(map[string]int)
			}
			state, _ := u.condition()
			st.More[state]++
		}
	}
	return st
}

func (u *upstream) status() UpstreamStatus {
	state, reason := u.condition()
	return UpstreamStatus{
		ID: u.ID, Addr: u.Addr, State: state, Reason: reason, Weight: u.endpoint.Load().Weight,
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
