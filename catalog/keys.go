package catalog

import (
	"iter"
	"slices"

	"muster/backends"
)

// A Place is where one endpoint stands in the store: a service and an ID.
type Place struct{ Service, ID string }

// Place is where a key belongs, and whether it is the metadata there. ok is
// false for a key that says nothing of an endpoint.
func (s *Snapshot) Place(key string) (p Place, meta, ok bool) {
	p.Service, p.ID, meta, ok = s.split(key)
	return p, meta, ok
}

// An Entry is what the store has at one place. A KV without Key is not there,
// and Endpoint is nil where nothing can be made of the two.
type Entry struct {
	Place
	Plain, Meta backends.KV
	Endpoint    *Endpoint
}

// Entry is what is at p; the zero Entry where nothing is.
func (s *Snapshot) Entry(p Place) Entry {
	svc := s.Service(p.Service)
	if svc == nil {
		return Entry{}
	}
	i, ok := slices.BinarySearchFunc(svc.entries, p.ID, byID)
	if !ok {
		return Entry{}
	}
	return svc.entries[i].in(p.Service)
}

// Entries yields what the store has, by service and ID.
func (s *Snapshot) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, svc := range s.services {
			for _, e := range svc.entries {
				if !yield(e.in(svc.Name)) {
					return
				}
			}
		}
	}
}

func (e *entry) in(service string) Entry {
	return Entry{Place{service, e.id}, e.plain, e.meta, e.endpoint}
}
