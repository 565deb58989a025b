package proxy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"muster/catalog"
	"muster/internal/proctest"
	"muster/proxy/balance"
)

// planOf is a plan of services with endpoints each, with a route for each.
func planOf(services, endpoints int) *Plan {
	plan := &Plan{Ready: true}
	for i := range services {
		name := fmt.Sprintf("s%05d", i)
		s := &Service{Name: name}
		for j := range endpoints {
			id := fmt.Sprintf("e%05d", j)
			s.Endpoints = append(s.Endpoints, &catalog.Endpoint{Service: name, ID: id, Announcement: catalog.Announcement{
				Addr: fmt.Sprintf("10.%d.%d.%d:80", i%256, j/256, j%256), Weight: 100, State: catalog.Up,
			}})
		}
		plan.Services = append(plan.Services, s)
		plan.Routes = append(plan.Routes, Route{Route: catalog.Route{Host: name + ".example.com", Path: "/"}, Service: name})
	}
	return plan
}

// toggled is plan as config makes it after one endpoint of the middle service
// has changed: new slices, the same pointers but for that.
func toggled(plan *Plan, change func([]*catalog.Endpoint) []*catalog.Endpoint) *Plan {
	next := *plan
	next.Services = slices.Clone(plan.Services)
	next.Routes = slices.Clone(plan.Routes)
	middle := len(next.Services) / 2
	s := *next.Services[middle]
	s.Endpoints = change(slices.Clone(s.Endpoints))
	next.Services[middle] = &s
	return &next
}

func drop(es []*catalog.Endpoint) []*catalog.Endpoint {
	return slices.Delete(es, len(es)/2, len(es)/2+1)
}

func reweigh(es []*catalog.Endpoint) []*catalog.Endpoint {
	e := *es[len(es)/2]
	e.Weight++
	es[len(es)/2] = &e
	return es
}

// A new plan costs only the services that changed: the others are the same
// pointers in the table, and the routes are shared.
func TestUpdateReuses(t *testing.T) {
	p := New(Config{})
	p.grace = 0
	plan := planOf(5, 3)
	p.Update(plan)
	before, routes := slices.Clone(p.order), p.routes
	built := make(map[string]any)
	for _, s := range before {
		built[s.plan.Name] = s.built
	}
	for _, change := range []func([]*catalog.Endpoint) []*catalog.Endpoint{drop, reweigh} {
		p.Update(toggled(plan, change))
		for i, s := range p.order {
			if changed := built[s.plan.Name] != s.built; changed != (i == 2) || s != before[i] {
				t.Errorf("%s: built anew: %v, want only the changed one", s.plan.Name, changed)
			}
		}
		if p.routes != routes {
			t.Error("the routes were built anew, and none changed")
		}
		built["s00002"] = p.order[2].built
	}
	// Pointers only save work: equal endpoints that were made anew change nothing.
	p.Update(plan)
	for _, s := range p.order {
		built[s.plan.Name] = s.built
	}
	p.Update(planOf(5, 3))
	for _, s := range p.order {
		if built[s.plan.Name] != s.built {
			t.Errorf("%s: built anew for equal endpoints", s.plan.Name)
		}
	}
	p.Update(&Plan{Ready: true})
	if len(p.services)+len(p.left)+len(p.probes.probes) != 0 {
		t.Errorf("after everything left: %d services, %d upstreams, want none", len(p.services), len(p.left))
	}
}

// The same endpoint twice, in whatever order, is one upstream.
func TestUpdateTwice(t *testing.T) {
	p := New(Config{})
	p.grace = 0
	plan := planOf(1, 3)
	es := plan.Services[0].Endpoints
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {0, 0, 1, 2, 2}, {1}, {2, 0}, {}, {0, 2, 1}} {
		var some []*catalog.Endpoint
		distinct := make(map[int]bool)
		for _, i := range order {
			some = append(some, es[i])
			distinct[i] = true
		}
		next := planOf(1, 0)
		next.Services[0].Endpoints = some
		p.Update(next)
		st := p.Status().Services[0].Upstreams
		if len(st) != len(distinct) || len(p.left) != 0 {
			t.Errorf("%v: %d upstreams in the status, %d left, want %d and none", order, len(st), len(p.left), len(distinct))
		}
		for _, u := range st {
			if u.State != "up" {
				t.Errorf("%v: %+v, want it up", order, u)
			}
		}
	}
}

// An endpoint that comes back soon has the running state, and so the connections,
// that it had; nobody sees it meanwhile. After the grace it is forgotten, by
// itself.
func TestLeavingForAMoment(t *testing.T) {
	p := New(Config{})
	p.grace = time.Hour
	with, without := planOf(1, 2), planOf(1, 1)
	p.Update(with)
	was := p.order[0].upstreams[1]
	p.Update(without)
	if st := p.Status().Services[0].Upstreams; len(st) != 1 || was.State() != balance.Leaving {
		t.Errorf("%d upstreams in the status, want one; the other is %v, want it leaving", len(st), was.State())
	}
	p.Update(with)
	if is := p.order[0].upstreams[1]; is != was || is.State() != balance.Up || len(p.left) != 0 {
		t.Errorf("back as another upstream: %v, %v, %d still left; want the same, up, and none", is != was, is.State(), len(p.left))
	}

	p = New(Config{})
	p.grace = 10 * time.Millisecond
	p.Update(with)
	was = p.order[0].upstreams[1]
	p.Update(without)
	proctest.Eventually(t, "it is forgotten", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.left) == 0
	})
	p.Update(with)
	if p.order[0].upstreams[1] == was {
		t.Error("the same upstream after the grace, want it forgotten")
	}
}

// An overview lists so many upstreams and counts the others; nothing is lost.
func TestOverview(t *testing.T) {
	p := New(Config{})
	plan := planOf(3, 4)
	plan.Services[2].Endpoints[3].State = catalog.Draining
	p.Update(plan)
	for _, most := range []int{0, 1, 4, 6, 11, 12, 100} {
		var listed, more int
		st := p.Overview(most)
		for i, s := range st.Services {
			listed += len(s.Upstreams)
			for _, n := range s.More {
				more += n
			}
			if draining := s.More["draining"] > 0; draining != (i == 2 && most < 12) {
				t.Errorf("Overview(%d): %s: more is %v", most, s.Name, s.More)
			}
		}
		if listed != min(most, 12) || listed+more != 12 || !st.Ready || !p.Ready() {
			t.Errorf("Overview(%d): %d listed and %d more, want %d and 12 in all", most, listed, more, min(most, 12))
		}
	}
}

// Where there are very many endpoints, one that is up and was never asked has no
// series of its own; it is counted.
func TestIdleEndpointsHaveNoSeries(t *testing.T) {
	for _, row := range []struct{ services, series, states int }{{20, 2000 * 4, 21}, {21, 2 * 4, 22}} {
		p := New(Config{})
		plan := planOf(row.services, 100)
		plan.Services[1].Endpoints[7].State = catalog.Draining
		p.Update(plan)
		p.order[0].upstreams[3].Begin(0)
		ch := make(chan prometheus.Metric)
		go func() { p.Collect(ch); close(ch) }()
		count := make(map[*prometheus.Desc]int)
		for m := range ch {
			count[m.Desc()]++
		}
		series := count[descUpstreamState] + count[descUpstreamRequests] + count[descUpstreamErrors] + count[descUpstreamInFlight]
		if series != row.series || count[descEndpoints] != row.states {
			t.Errorf("%d endpoints: %d series of endpoints, %d counts by state; want %d, %d", row.services*100, series, count[descEndpoints], row.series, row.states)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, bb := range []struct {
		name                string
		services, endpoints int
		change              func([]*catalog.Endpoint) []*catalog.Endpoint
	}{
		{"1000x10-leaves", 1000, 10, drop},
		{"1000x10-changes", 1000, 10, reweigh},
		{"1x10000-leaves", 1, 10_000, drop},
		{"1x10000-changes", 1, 10_000, reweigh},
		{"10000x10-leaves", 10_000, 10, drop},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := New(Config{})
			plan := planOf(bb.services, bb.endpoints)
			plans := []*Plan{plan, toggled(plan, bb.change)}
			p.Update(plan)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Update(plans[(i+1)%2])
			}
		})
	}
}

func TestLatencySince(t *testing.T) {
	var h balance.Histogram
	for range 10 {
		h.Observe(time.Second)
	}
	before := newLatency(h.Buckets())
	for range 10 {
		h.Observe(time.Millisecond)
	}
	since := newLatency(h.Buckets()).Since(before)
	if q := since.Quantile(0.99); q < 900*time.Microsecond || q > 1200*time.Microsecond || since.P50 != since.Quantile(0.5) {
		t.Errorf("since: %v, want about 1ms: the seconds were before", q)
	}
	if q := newLatency(nil).Since(Latency{}).Quantile(0.5); q != 0 {
		t.Errorf("of nothing: %v, want 0", q)
	}
}
