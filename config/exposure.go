package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"muster/catalog"
	"muster/proxy"
)

// A bid is a service that asks for a route. The higher rank has it, then the
// older bid, then the lesser name, so that every balancer decides alike.
type bid struct {
	catalog.Route
	service, source string
	rank            int
	created         int64
}

// The ranks of a bid: the operator beats the announcer.
const (
	byWhoLeft = iota // a service that is gone: nobody else wants it
	byAnnouncer
	byOperator
)

// routes decides who is exposed.
func (p *planner) routes() {
	bids := slices.Concat(p.announced(), p.domain(), p.fallback())
	slices.SortStableFunc(bids, func(a, b bid) int {
		return cmp.Or(
			strings.Compare(a.Host, b.Host), strings.Compare(a.Path, b.Path),
			cmp.Compare(b.rank, a.rank), cmp.Compare(a.created, b.created), strings.Compare(a.service, b.service),
		)
	})
	exposed := make(map[string]bool)
	for _, b := range bids {
		exposed[b.service] = true
		last := len(p.plan.Routes) - 1
		if last < 0 || p.plan.Routes[last].Route != b.Route {
			p.plan.Routes = append(p.plan.Routes, proxy.Route{Route: b.Route, Service: b.service, Source: b.source})
			continue
		}
		if holder := &p.plan.Routes[last]; holder.Service != b.service {
			holder.Shadows = append(holder.Shadows, b.service)
			p.problem(b.service, "route %s (%s) goes to %s, which has it already (%s): announce another one, or stop the other", b.Route, b.source, holder.Service, holder.Source)
		}
	}
	for _, s := range p.plan.Services {
		if !exposed[s.Name] && p.announces(s.Name) {
			why := "is not the only service"
			if p.plan.Sole != "" {
				why = fmt.Sprintf("%s was the only service before it", p.plan.Sole)
			}
			p.problem(s.Name, "not exposed: it announces no route, and %s; give its sidekick -route HOST/PATH, or this balancer -default %s or -domain SUFFIX", why, s.Name)
		}
	}
}

// announced are the routes that announcements ask for.
func (p *planner) announced() (bids []bid) {
	for svc := range p.snapshot.All() {
		rank := byAnnouncer
		if svc.Gone() {
			rank = byWhoLeft
		}
		for _, c := range svc.Routes {
			bids = append(bids, bid{c.Route, svc.Name, "announced", rank, c.Created})
		}
	}
	return bids
}

// domain are the NAME.DOMAIN hosts.
func (p *planner) domain() (bids []bid) {
	if p.flags.Domain == "" {
		return nil
	}
	for _, s := range p.plan.Services {
		r, err := catalog.ParseRoute(s.Name + "." + p.flags.Domain + "/")
		if err != nil || strings.HasPrefix(r.Host, "*") {
			p.problem(s.Name, "no host by -domain %s: the name of the service can't stand in a host name", p.flags.Domain)
			continue
		}
		bids = append(bids, bid{r, s.Name, "flag -domain", byOperator, 0})
	}
	return bids
}

// fallback is who gets what nothing else matches: the service of -default, or
// the only one there is.
func (p *planner) fallback() []bid {
	everything := catalog.Route{Path: "/"}
	if d := p.flags.Default; d != "" {
		return []bid{{everything, d, "flag -default", byOperator, 0}}
	}
	if p.plan.Sole == "" {
		return nil
	}
	svc := p.snapshot.Service(p.plan.Sole)
	if svc != nil && len(svc.Routes) > 0 {
		return nil // it says itself what it wants
	}
	return []bid{{everything, p.plan.Sole, "only service", byAnnouncer, p.born(p.plan.Sole)}}
}

// sole is the service that is exposed for being the only one. One that was
// keeps it while it lives. When it has left, another takes its place only if it
// came later: a second service must not be exposed because the first restarts.
func (p *planner) sole() string {
	var alone string
	n := 0
	for _, s := range p.plan.Services {
		if p.announces(s.Name) {
			alone = s.Name
			n++
		}
	}
	before := p.flags.Sole
	left := p.snapshot.Service(before)
	switch {
	case p.flags.Loaded || p.live(before):
		return before
	case left != nil && n == 1 && p.born(alone) >= left.Left():
		return alone // it came when the other had left
	case left != nil:
		return before
	case p.snapshot.Revision < p.flags.SoleSeen:
		before = "" // the store begins anew: the record speaks of another
	case n == 1 && p.born(alone) > p.flags.SoleSeen:
		return alone
	}
	if before == "" && n == 1 {
		return alone
	}
	return before
}

// announces reports whether a service has an endpoint, from the store or the
// file. Entries that can't be read are none.
func (p *planner) announces(name string) bool {
	svc := p.snapshot.Service(name)
	return svc != nil && len(svc.Endpoints) > 0 || len(p.file.services[name].endpoints) > 0
}

// live reports whether there is anything of the service, if only a key.
func (p *planner) live(name string) bool {
	svc := p.snapshot.Service(name)
	return svc != nil && !svc.Gone() || len(p.file.services[name].endpoints) > 0
}

// born is the revision at which the oldest endpoint of a service came; 0 where
// it has none in the store.
func (p *planner) born(name string) int64 {
	svc := p.snapshot.Service(name)
	if svc == nil || len(svc.Endpoints) == 0 {
		return 0
	}
	return slices.MinFunc(svc.Endpoints, func(a, b *catalog.Endpoint) int { return cmp.Compare(a.Created, b.Created) }).Created
}
