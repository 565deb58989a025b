package config

import (
	"slices"
	"strings"

	"muster/catalog"
	"muster/proxy"
)

// A Planner makes one plan after the other, each the same as [Plan] would make.
// Where endpoints came, went or changed and nobody's exposure did, it takes the
// rest from the plan before: of 1,000 services with 100 endpoints each, one
// change costs that one service. Its zero value is ready; it is for one
// goroutine at a time.
type Planner struct {
	file     *File
	flags    Flags
	snapshot *catalog.Snapshot
	plan     *proxy.Plan
	problems []Problem
}

// Plan is [Plan].
func (p *Planner) Plan(file *File, flags Flags, snapshot *catalog.Snapshot) (*proxy.Plan, []Problem) {
	if plan := p.next(file, flags, snapshot); plan != nil {
		p.plan = plan
	} else {
		p.plan, p.problems = Plan(file, flags, snapshot)
	}
	p.file, p.flags, p.snapshot = file, flags, snapshot
	return p.plan, p.problems
}

// next is the plan before with the services that changed, nil where that is not
// all there is to do.
func (p *Planner) next(file *File, flags Flags, snapshot *catalog.Snapshot) *proxy.Plan {
	if p.plan == nil || p.snapshot == nil || snapshot == nil || file != p.file || !flags.equal(p.flags) {
		return nil
	}
	changed, ok := snapshot.Since(p.snapshot)
	if !ok {
		return nil
	}
	for _, svc := range changed {
		before := p.snapshot.Service(svc.Name)
		if svc.Name == p.plan.Sole || svc.Name == flags.Sole || !sameExposure(before, svc) {
			return nil
		}
		if slices.ContainsFunc(before.Endpoints, unspoken) || slices.ContainsFunc(svc.Endpoints, unspoken) {
			return nil // they are a problem
		}
	}
	if file == nil {
		file = new(File)
	}
	maker := planner{file: file, flags: flags, snapshot: snapshot}
	plan := *p.plan
	plan.Services = slices.Clone(plan.Services)
	for _, svc := range changed {
		i, _ := slices.BinarySearchFunc(plan.Services, svc.Name, func(s *proxy.Service, name string) int { return strings.Compare(s.Name, name) })
		plan.Services[i] = maker.service(svc.Name, svc.Endpoints)
	}
	return &plan
}

// sameExposure reports whether both states of a service make the same bids and
// problems, where it is not the sole service: see planner.routes.
func sameExposure(a, b *catalog.Service) bool {
	return a.Gone() == b.Gone() && (len(a.Endpoints) > 0) == (len(b.Endpoints) > 0) && slices.Equal(a.Routes, b.Routes)
}

func (f Flags) equal(o Flags) bool {
	return slices.Equal(f.Listen, o.Listen) && f.Default == o.Default && f.Domain == o.Domain && f.Sole == o.Sole && f.Loaded == o.Loaded
}
