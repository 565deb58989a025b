package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"muster/catalog"
	"muster/internal/near"
	"muster/proxy"
)

// DefaultListen is where the proxy accepts requests when nobody says.
const DefaultListen = ":8080"

// Flags are what the command line says about a plan, and what its caller remembers.
type Flags struct {
	Listen  []string // -listen; they replace the file's listeners
	Default string   // -default: the service that gets what no route matches
	Domain  string   // -domain: every service answers to NAME.DOMAIN

	// Sole is the service that was exposed for being the only one, as the plan
	// before said it (or the state folder, at the start); empty for none.
	Sole string
	// SoleSeen is the revision at which the record of Sole was written, 0 where
	// that is not known. When Sole is away at the start, only a service that came
	// after it may take its place.
	SoleSeen int64

	// Loaded says that the snapshot is of the disk: nobody is the only one in it
	// who was not before.
	Loaded bool
}

// A Problem is something in the file or the store that does not do what it
// looks like, and what to do about it.
type Problem struct {
	Service string // "" where it concerns none
	Text    string
}

// Plan makes the plan of a file (nil for none), flags and a snapshot (nil before
// the first). Who is exposed:
//
//   - a service with an announced route; of two equal ones the older has it;
//   - the service of -default, for what no route matches;
//   - every service as NAME.DOMAIN, with -domain;
//   - a service that says nothing, when it is the only one. It keeps that while
//     it lives; a second one is not exposed until it says so.
func Plan(file *File, flags Flags, snapshot *catalog.Snapshot) (*proxy.Plan, []Problem) {
	if file == nil {
		file = new(File)
	}
	p := &planner{file: file, flags: flags, snapshot: snapshot, plan: &proxy.Plan{
		Ready:     snapshot != nil,
		Listeners: file.Listeners(flags.Listen),
		AccessLog: cmp.Or(file.access, "combined"),
	}}
	if snapshot == nil {
		p.snapshot = catalog.New("")
		p.plan.Ready = file.fixed()
	}
	p.services()
	p.routes()
	return p.plan, p.problems
}

// Listeners are those of listen if there are any, else the file's, else
// [DefaultListen]. What the file says of its first listener counts for all that
// listen names.
func (f *File) Listeners(listen []string) []proxy.Listener {
	if len(listen) == 0 && len(f.listeners) > 0 {
		return f.listeners
	}
	source := "flag -listen"
	if len(listen) == 0 {
		listen, source = []string{DefaultListen}, "default"
	}
	var all []proxy.Listener
	for _, addr := range listen {
		var l proxy.Listener
		if len(f.listeners) > 0 {
			l = f.listeners[0]
		}
		l.Bind, l.Source = addr, source
		all = append(all, l)
	}
	return all
}

// fixed reports whether the file names an endpoint, so that there is something
// to do without a store.
func (f *File) fixed() bool {
	for _, s := range f.services {
		if len(s.endpoints) > 0 {
			return true
		}
	}
	return false
}

type planner struct {
	file     *File
	flags    Flags
	snapshot *catalog.Snapshot
	plan     *proxy.Plan
	problems []Problem
}

func (p *planner) problem(service, format string, args ...any) {
	p.problems = append(p.problems, Problem{service, fmt.Sprintf(format, args...)})
}

// services lists every known service with its settings.
func (p *planner) services() {
	for svc := range p.snapshot.All() {
		p.plan.Services = append(p.plan.Services, p.service(svc.Name, svc.Endpoints))
	}
	for _, name := range slices.Sorted(maps.Keys(p.file.services)) {
		if p.snapshot.Service(name) == nil {
			p.plan.Services = append(p.plan.Services, p.service(name, nil))
		}
	}
	if d := p.flags.Default; d != "" && !p.known(d) {
		p.plan.Services = append(p.plan.Services, p.service(d, nil))
		if p.plan.Ready {
			p.unknownDefault(d)
		}
	}
	if p.flags.Default == "" {
		p.plan.Sole = p.sole()
		if s := p.plan.Sole; s != "" && !p.known(s) {
			p.plan.Services = append(p.plan.Services, p.service(s, nil))
		}
	}
	slices.SortFunc(p.plan.Services, func(a, b *proxy.Service) int { return strings.Compare(a.Name, b.Name) })
}

// unknownDefault says that nobody knows the service of -default.
func (p *planner) unknownDefault(name string) {
	var names []string
	for svc := range p.snapshot.All() {
		names = append(names, svc.Name)
	}
	hint := ""
	if miss := near.Miss(name, names); miss != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", miss)
	}
	p.problem(name, "flag -default: nobody announces a service %q yet%s; what no route matches gets 503", name, hint)
}

func (p *planner) known(name string) bool {
	_, ok := p.file.services[name]
	return ok || p.snapshot.Service(name) != nil
}

// service is one service as the file wants it.
func (p *planner) service(name string, endpoints []*catalog.Endpoint) *proxy.Service {
	s, fixed := p.file.defaults, []*catalog.Endpoint(nil)
	if own, ok := p.file.services[name]; ok {
		s, fixed = own.plan, own.endpoints
	}
	s.Name, s.Endpoints = name, endpoints
	if len(fixed) > 0 {
		s.Endpoints = withFixed(endpoints, fixed)
	}
	if i := slices.IndexFunc(s.Endpoints, unspoken); i >= 0 {
		s.Endpoints = p.leaveOut(name, s.Endpoints[i].Proto, s.Endpoints)
	}
	return &s
}

// unspoken reports whether e announces a protocol that the proxy does not speak.
func unspoken(e *catalog.Endpoint) bool { return !proxy.Speaks(e.Proto) }

// leaveOut returns those of endpoints that the proxy can speak with, and tells of
// the others, such as one of proto.
func (p *planner) leaveOut(service, proto string, endpoints []*catalog.Endpoint) []*catalog.Endpoint {
	var spoken []*catalog.Endpoint
	var out []string
	for _, e := range endpoints {
		if unspoken(e) {
			out = append(out, e.ID)
		} else {
			spoken = append(spoken, e)
		}
	}
	const ours = "and this balancer speaks http and https"
	if len(out) == 1 {
		p.problem(service, "%s gets no request: it announces protocol %q, %s", out[0], proto, ours)
	} else {
		p.problem(service, "%s and %d more get no request: they announce protocols such as %q, %s", out[0], len(out)-1, proto, ours)
	}
	return spoken
}

// withFixed adds the file's endpoints to the announced ones; an address that is
// announced too stands there once.
func withFixed(announced, fixed []*catalog.Endpoint) []*catalog.Endpoint {
	all := slices.Clone(announced)
	for _, f := range fixed {
		if !slices.ContainsFunc(announced, func(e *catalog.Endpoint) bool { return e.Addr == f.Addr }) {
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, byID)
	return all
}
