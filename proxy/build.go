package proxy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"muster/catalog"
	"muster/proxy/balance"
)

// An upstreamKey is what an endpoint's running state is kept by, through every
// plan.
type upstreamKey struct{ service, id, addr, proto string }

// An upstream is the running state of an endpoint, and the last update whose
// plan had it.
type upstream struct {
	balance.Upstream
	endpoint atomic.Pointer[catalog.Endpoint] // p.mu guards its changes
	update   uint64
}

// A departed is an upstream that is in no plan, and since when.
type departed struct {
	*upstream
	since time.Time
}

// A service is what was built for one service of the plan.
type service struct {
	plan      *Service // in the newest plan
	stats     *balance.Stats
	upstreams []*upstream // of plan.Endpoints, by ID; build makes another slice
	built     *balance.Service
	number    int // in the table
}

// swap puts the table of plan in force. What did not change since the plan
// before is taken over as it is.
func (p *Proxy) swap(plan *Plan) {
	p.updates++
	built := make([]*balance.Service, len(plan.Services))
	same := len(plan.Services) == len(p.order) && p.routes != nil
	order := p.order
	if len(order) != len(plan.Services) {
		order = make([]*service, len(plan.Services))
	}
	for i, planned := range plan.Services {
		s := p.service(planned, i) // reads p.order[i], which may be order[i]
		same = same && s == p.order[i]
		order[i], built[i] = s, s.built
	}
	p.order = order
	if !same {
		p.renumber()
	}
	if !same || !sameRoutes(plan.Routes, p.plan.Routes) {
		p.routes = balance.NewRoutes(p.targets(plan))
	}
	p.table.Store(balance.NewTable(plan.Ready, p.routes, built))
	for _, s := range p.rebuilt {
		s.stats.Wake() // it may have more room now
	}
	p.rebuilt = p.rebuilt[:0]
	p.part()
	p.sweep()
}

func sameRoutes(a, b []Route) bool {
	return slices.EqualFunc(a, b, func(a, b Route) bool { return a.Route == b.Route && a.Service == b.Service })
}

// renumber counts the services as they now stand, and takes out those that are
// not there any more.
func (p *Proxy) renumber() {
	for _, s := range p.services {
		s.number = -1
	}
	for i, s := range p.order {
		s.number = i
	}
	maps.DeleteFunc(p.services, func(_ string, s *service) bool {
		if s.number >= 0 {
			return false
		}
		for _, u := range s.upstreams {
			p.leave(u)
		}
		return true
	})
}

// targets are the routes of plan; one whose service is not in it leads nowhere.
func (p *Proxy) targets(plan *Plan) []balance.Target {
	targets := make([]balance.Target, 0, len(plan.Routes))
	for _, r := range plan.Routes {
		if s := p.services[r.Service]; s != nil {
			targets = append(targets, balance.Target{Route: r.Route, Service: s.number})
		}
	}
	return targets
}

// service returns what is built for s, which stands at place i: what is there,
// if it is the same.
func (p *Proxy) service(s *Service, i int) *service {
	var is *service
	if i < len(p.order) && p.order[i].plan.Name == s.Name {
		is = p.order[i]
	} else {
		is = p.services[s.Name]
	}
	switch {
	case is == nil:
		is = &service{plan: new(Service), stats: new(balance.Stats)}
		p.services[s.Name] = is
		p.build(is, s)
	case !sameService(is.plan, s):
		p.build(is, s)
	default:
		is.plan = s
	}
	return is
}

func sameService(a, b *Service) bool {
	return a == b || a.ServiceSettings == b.ServiceSettings && sameHealth(a.Health, b.Health) && sameEndpoints(a.Endpoints, b.Endpoints)
}

func sameEndpoints(a, b []*catalog.Endpoint) bool {
	if len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] {
		return true // the same slice
	}
	return slices.EqualFunc(a, b, sameEndpoint)
}

// sameEndpoint compares what the proxy goes by.
func sameEndpoint(a, b *catalog.Endpoint) bool {
	return a == b || a.ID == b.ID && a.Addr == b.Addr && a.Proto == b.Proto && a.Weight == b.Weight && a.State == b.State && sameHealth(a.Health, b.Health)
}

func sameHealth(a, b *catalog.Health) bool { return a == b || a != nil && b != nil && *a == *b }

// build makes s anew from plan, with the upstreams that are there.
func (p *Proxy) build(s *service, plan *Service) {
	endpoints := plan.Endpoints
	byID := func(a, b *catalog.Endpoint) int { return strings.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(endpoints, byID) {
		endpoints = slices.Clone(endpoints)
		slices.SortStableFunc(endpoints, byID)
	}
	before, rest := s.upstreams, s.upstreams
	sameProbe := sameHealth(s.plan.Health, plan.Health)
	s.upstreams = make([]*upstream, 0, len(endpoints))
	members := slices.Grow(p.members[:0], len(endpoints))
	from := 0 // in s.upstreams: those of this ID
	for i, e := range endpoints {
		for len(rest) > 0 && rest[0].ID < e.ID {
			rest = rest[1:]
		}
		if i > 0 && endpoints[i-1].ID != e.ID {
			from = len(s.upstreams)
		}
		if among(s.upstreams[from:], e) != nil {
			continue // the same endpoint twice
		}
		u := among(rest, e)
		if u == nil {
			u = p.upstream(plan.Name, e)
		}
		if was := u.endpoint.Load(); was == nil || !sameEndpoint(was, e) || !sameProbe || u.State() == balance.Leaving {
			u.SetState(stateOf(e.State))
			p.probes.set(&u.Upstream, cmp.Or(plan.Health, e.Health))
		}
		u.endpoint.Store(e)
		u.update = p.updates
		s.upstreams = append(s.upstreams, u)
		members = append(members, balance.Member{Upstream: &u.Upstream, Weight: e.Weight})
	}
	for _, u := range before {
		if u.update != p.updates {
			p.leave(u)
		}
	}
	s.plan = plan
	s.built = balance.NewService(plan.Name, s.stats, members)
	p.members = members
	apply(s.built, &plan.ServiceSettings)
	p.rebuilt = append(p.rebuilt, s)
}

// apply sets what the plan says of a service, which has the defaults.
func apply(s *balance.Service, plan *ServiceSettings) {
	s.Connect = cmp.Or(plan.Timeout.Connect, s.Connect)
	s.Response = cmp.Or(plan.Timeout.Response, s.Response)
	s.Stream = cmp.Or(plan.Timeout.Stream, s.Stream)
	s.Tunnel = cmp.Or(plan.Timeout.Tunnel, s.Tunnel)
	s.MaxConns = max(plan.MaxConns, 0)
	s.QueueSize = max(plan.Queue.Size, 0)
	s.QueueTime = cmp.Or(plan.Queue.Timeout, s.QueueTime)
	s.MaxBody = max(plan.Limits.Body, 0)
	switch plan.Host {
	case "", KeepHost:
	case EndpointHost:
		s.OwnHost = true
	default:
		s.Host = plan.Host
	}
	s.ResponseHead = cmp.Or(plan.Limits.ResponseHead, s.ResponseHead)
}

// among returns the running state of e, nil where it is none of those with its ID
// that some begin with.
func among(some []*upstream, e *catalog.Endpoint) *upstream {
	for _, u := range some {
		if u.ID != e.ID {
			return nil
		}
		if u.of(e) {
			return u
		}
	}
	return nil
}

// of reports whether u is the running state of e.
func (u *upstream) of(e *catalog.Endpoint) bool {
	return u.ID == e.ID && u.Addr == e.Addr && u.Proto == e.Proto
}

// upstream returns the running state of e, which came: there may be one still.
func (p *Proxy) upstream(service string, e *catalog.Endpoint) *upstream {
	key := upstreamKey{service, e.ID, e.Addr, e.Proto}
	u := p.left[key].upstream
	if u == nil {
		u = &upstream{Upstream: balance.Upstream{Service: service, ID: e.ID, Addr: e.Addr, Proto: e.Proto}}
	}
	delete(p.left, key)
	return u
}

func stateOf(s catalog.State) balance.State {
	switch s {
	case catalog.Starting:
		return balance.Starting
	case catalog.Draining:
		return balance.Draining
	}
	return balance.Up
}

// leave takes an upstream out of the next table: what runs on it goes on. Until
// that table is in force requests may choose it; see part.
func (p *Proxy) leave(u *upstream) {
	u.update = 0 // in no plan
	p.left[upstreamKey{u.Service, u.ID, u.Addr, u.Proto}] = departed{u, time.Now()}
}

// part says of the upstreams that are in no table any more that they left. A
// request that still holds the old table finds them so, and looks at the new one.
func (p *Proxy) part() {
	for _, u := range p.left {
		if u.State() != balance.Leaving {
			u.SetState(balance.Leaving)
			p.probes.set(&u.Upstream, nil)
		}
	}
}

// leaveGrace is how long the connections to an endpoint that left are kept: one
// that is back by then, as after the restart of its app or of a sidekick, finds
// them.
const leaveGrace = 5 * time.Second

// sweep forgets the upstreams that left leaveGrace ago and have nothing running
// any more. p.mu is held; while there are any, it is called again.
func (p *Proxy) sweep() {
	now := time.Now()
	maps.DeleteFunc(p.left, func(_ upstreamKey, u departed) bool {
		if !u.Idle() || now.Sub(u.since) < p.grace {
			return false
		}
		u.SetState(balance.Gone) // before: who still asks it forgets it again
		p.engine.Forget(&u.Upstream)
		return true
	})
	if len(p.left) > 0 && !p.sweeping {
		p.sweeping = true
		p.sweeper.Reset(max(p.grace/5, time.Millisecond))
	}
}

// sweepLater is what the timer calls.
func (p *Proxy) sweepLater() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweeping = false
	p.sweep()
}
