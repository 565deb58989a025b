// Package catalog knows what the keys mean: it turns the changes of a store
// into snapshots of services and endpoints. It is pure: no I/O, and no
// goroutine that outlives a call.
//
// The types, from the outside in: a [Snapshot] is every service at one
// revision; a [Service] has its [Endpoint]s; an endpoint is one [Announcement]
// with its place in the store. [Snapshot.Apply] makes the next snapshot of a
// [backends.Change]; what did not change is the same pointer in both, so a
// reader finds what is new by comparing pointers.
//
//	/services/web/a        "10.0.0.5:8080"       ┐
//	/services.meta/web/a   {"weight":100, …}     ┴─> Endpoint{Service: web, ID: a}
package catalog

import (
	"cmp"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"muster/backends"
)

// DefaultPrefix is where services are announced.
const DefaultPrefix = "/services"

// A Snapshot is every known service at one revision. It never changes; Apply
// makes the next one, and services that did not change are the same pointers in
// both, after a Full Change too.
type Snapshot struct {
	// Revision is the store's, as the last Change said it.
	Revision int64

	prefix   string
	services []*Service // by name
	stray    []Bad      // by key; see [Snapshot.Stray]
}

// A Service is a name and its endpoints. It never changes. One that was
// announced stays known after its last endpoint has left (requests for it get
// 503, not 404), with the routes it had, until the process ends; only the
// maxGone that left last are remembered.
type Service struct {
	Name      string
	Endpoints []*Endpoint // by ID
	Routes    []Claim     // what its announcements ask for, oldest first, each once
	Bad       []Bad       // entries that can't be read, by key

	entries []*entry // by ID; at least one, unless the service is gone
	left    int64    // the revision at which the last entry left
}

// maxGone is how many services without a key are remembered, and maxStray how many
// keys that are nobody's.
const (
	maxGone  = 1000
	maxStray = 1000
)

// Gone reports whether nothing is announced under the name any more.
func (s *Service) Gone() bool { return len(s.entries) == 0 }

// Left is the revision at which a service that is gone was last seen.
func (s *Service) Left() int64 { return s.left }

// A Claim is a route that a service asks for, and the revision since which it
// does: the creation of the oldest of its endpoints that say so, or of one that
// said so until another took its place.
type Claim struct {
	Route
	Created int64
}

// An Endpoint is one announced address of a service. It never changes.
type Endpoint struct {
	Service, ID string
	Announcement
	Created, Modified, Lease int64 // of its plain key, or of its metadata where only that is left; Created is the revision it came with where the store has none
}

// A Bad is an entry that can't be read, and why. If the key had a good form
// before, its endpoint goes on with that.
type Bad struct {
	Key, Value string
	Err        error
	Kept       bool // the last good form is in use
}

// New is the snapshot before the first Change, of services under prefix.
func New(prefix string) *Snapshot {
	return &Snapshot{prefix: "/" + strings.Trim(prefix, "/")}
}

// Prefixes are what a store has to be asked for.
func (s *Snapshot) Prefixes() []string { return []string{s.prefix, s.prefix + ".meta"} }

// All yields the services by name.
func (s *Snapshot) All() iter.Seq[*Service] { return slices.Values(s.services) }

// Service returns the service of that name, or nil.
func (s *Snapshot) Service(name string) *Service {
	if i, ok := s.find(name); ok {
		return s.services[i]
	}
	return nil
}

// Since returns the services that are others in before, by name. ok is false
// where the two don't know the same names: then every service may have a new
// place.
func (s *Snapshot) Since(before *Snapshot) (changed []*Service, ok bool) {
	if before == nil || len(before.services) != len(s.services) {
		return nil, false
	}
	for i, svc := range s.services {
		switch was := before.services[i]; {
		case was == svc:
		case was.Name != svc.Name:
			return nil, false
		default:
			changed = append(changed, svc)
		}
	}
	return changed, true
}

func (s *Snapshot) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.services, name, func(svc *Service, name string) int { return strings.Compare(svc.Name, name) })
}

// Bad yields every entry that can't be read, by service and key, then the stray
// keys.
func (s *Snapshot) Bad() iter.Seq[Bad] {
	return func(yield func(Bad) bool) {
		for _, svc := range s.services {
			for _, b := range svc.Bad {
				if !yield(b) {
					return
				}
			}
		}
		for _, b := range s.stray {
			if !yield(b) {
				return
			}
		}
	}
}

// Stray are the keys under the prefixes that can be no endpoint's, such as
// /services/web or /services/web/a/b, by key; of many the first maxStray that came.
func (s *Snapshot) Stray() []Bad { return s.stray }

// Apply returns the snapshot after c.
func (s *Snapshot) Apply(c backends.Change) *Snapshot {
	next := &Snapshot{Revision: c.Revision, prefix: s.prefix, services: s.services}
	byName, stray := next.edits(c)
	next.stray = s.strayAfter(stray, c.Full)
	if c.Full {
		// What is not in a Full Change is deleted.
		for _, svc := range s.services {
			if _, ok := byName[svc.Name]; !ok && !svc.Gone() {
				byName[svc.Name] = nil
			}
		}
	}
	changed := s.changed(&change{next, c.Full}, byName, len(c.Put))
	if len(changed) > 0 {
		next.services = merge(s.services, changed)
	}
	if slices.ContainsFunc(changed, (*Service).Gone) {
		next.services = forget(next.services)
	}
	return next
}

// manyKeys are shared among the processors: 100,000 endpoints are a tenth of a
// second for one.
const manyKeys = 5000

// changed are the services that the edits of so many keys make others.
func (s *Snapshot) changed(c *change, byName map[string]*edits, keys int) []*Service {
	names := slices.Collect(maps.Keys(byName))
	services := make([]*Service, len(names)) // nil: the same
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < len(names); i = int(next.Add(1)) - 1 {
			before := s.Service(names[i])
			if after := before.apply(c, names[i], byName[names[i]]); after != before {
				services[i] = after
			}
		}
	}
	if keys < manyKeys {
		work()
	} else {
		var wg sync.WaitGroup
		for range min(runtime.GOMAXPROCS(0), len(names)) {
			wg.Go(work)
		}
		wg.Wait()
	}
	return slices.DeleteFunc(services, func(svc *Service) bool { return svc == nil })
}

// strayAfter are the stray keys after edits.
func (s *Snapshot) strayAfter(edits []keyEdit, full bool) []Bad {
	if len(edits) == 0 && (!full || len(s.stray) == 0) {
		return s.stray
	}
	after := make(map[string]Bad)
	if !full {
		for _, b := range s.stray {
			after[b.Key] = b
		}
	}
	for _, ed := range edits {
		_, known := after[ed.id]
		switch {
		case ed.kv.Key == "":
			delete(after, ed.id)
		case known || len(after) < maxStray:
			key := strings.Clone(ed.id)
			after[key] = Bad{Key: key, Value: strings.Clone(ed.kv.Value), Err: s.strayError(key)}
		}
	}
	return slices.SortedFunc(maps.Values(after), func(a, b Bad) int { return strings.Compare(a.Key, b.Key) })
}

// edits sorts a Change by service; stray are the keys that are none's, whole.
func (s *Snapshot) edits(c backends.Change) (byName map[string]*edits, stray []keyEdit) {
	byName = make(map[string]*edits)
	var last string // a store tells keys in order
	var of *edits
	add := func(key string, kv *backends.KV) {
		name, id, meta, ok := s.split(key)
		if !ok {
			if s.under(key) {
				stray = append(stray, keyEdit{key, kv})
			}
			return
		}
		if of == nil || name != last {
			last = name
			before := of
			if of = byName[name]; of == nil {
				of = new(edits)
				byName[name] = of
			}
			if before != nil { // it may be as large
				of.plain = slices.Grow(of.plain, len(before.plain))
				of.meta = slices.Grow(of.meta, len(before.meta))
			}
		}
		if meta {
			of.meta = append(of.meta, keyEdit{id, kv})
		} else {
			of.plain = append(of.plain, keyEdit{id, kv})
		}
	}
	for i := range c.Put {
		add(c.Put[i].Key, &c.Put[i])
	}
	gone := new(backends.KV) // no Key: not there
	for _, key := range c.Deleted {
		add(key, gone)
	}
	return byName, stray
}

// merge returns services with those in changed in place of their namesakes.
func merge(services, changed []*Service) []*Service {
	slices.SortFunc(changed, func(a, b *Service) int { return strings.Compare(a.Name, b.Name) })
	all := make([]*Service, 0, len(services)+len(changed))
	for _, svc := range changed {
		i, found := slices.BinarySearchFunc(services, svc.Name, func(s *Service, name string) int { return strings.Compare(s.Name, name) })
		all = append(all, services[:i]...)
		all = append(all, svc)
		if found {
			i++
		}
		services = services[i:]
	}
	return append(all, services...)
}

// forget drops the services that left first, so that at most maxGone are kept.
func forget(services []*Service) []*Service {
	var gone []*Service
	for _, s := range services {
		if s.Gone() {
			gone = append(gone, s)
		}
	}
	if len(gone) <= maxGone {
		return services
	}
	slices.SortStableFunc(gone, func(a, b *Service) int { return cmp.Compare(b.left, a.left) })
	limit := make(map[*Service]bool)
	for _, s := range gone[maxGone:] {
		limit[s] = true
	}
	return slices.DeleteFunc(services, func(s *Service) bool { return limit[s] })
}
