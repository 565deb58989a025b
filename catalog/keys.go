package catalog

import (
	"fmt"
	"iter"
	"slices"
	"strings"

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
	i, ok := slices.BinarySearchFunc(svc.entries, p.ID, func(e *entry, id string) int { return strings.Compare(e.endpoint.ID, id) })
	if !ok {
		return Entry{}
	}
	return s.in(svc.entries[i])
}

// Entries yields what the store has, by service and ID.
func (s *Snapshot) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, svc := range s.services {
			for _, e := range svc.entries {
				if !yield(s.in(e)) {
					return
				}
			}
		}
	}
}

// key and metaKey are the two keys of an entry.
func (s *Snapshot) key(service, id string) string { return s.prefix + "/" + service + "/" + id }

func (s *Snapshot) metaKey(service, id string) string {
	return s.prefix + ".meta/" + service + "/" + id
}

// under reports whether a key is under one of the prefixes.
func (s *Snapshot) under(key string) bool {
	rest, ok := strings.CutPrefix(key, s.prefix)
	rest = strings.TrimPrefix(rest, ".meta")
	return ok && (rest == "" || rest[0] == '/')
}

// strayError says what a stray key should look like.
func (s *Snapshot) strayError(key string) error {
	prefix := s.prefix
	if strings.HasPrefix(key, prefix+".meta") {
		prefix += ".meta"
	}
	rest := strings.TrimPrefix(key, prefix)
	switch n := strings.Count(rest, "/"); {
	case rest == "":
		return fmt.Errorf("no endpoint can stand here: want %s/NAME/ID", prefix)
	case n < 2:
		return fmt.Errorf("a name without an ID: want %s/NAME/ID", prefix)
	case n > 2:
		return fmt.Errorf("an ID with a slash, %q: want %s/NAME/ID", strings.SplitN(rest, "/", 3)[2], prefix)
	}
	return fmt.Errorf("an empty name or ID: want %s/NAME/ID", prefix)
}

// split takes a key apart: prefix/NAME/ID or prefix.meta/NAME/ID. Keys that are
// shorter or deeper are none of ours.
func (s *Snapshot) split(key string) (name, id string, meta, ok bool) {
	rest, ok := strings.CutPrefix(key, s.prefix)
	if !ok {
		return "", "", false, false
	}
	rest, meta = strings.CutPrefix(rest, ".meta")
	rest, ok = strings.CutPrefix(rest, "/")
	name, id, two := strings.Cut(rest, "/")
	ok = ok && two && name != "" && id != "" && !strings.Contains(id, "/")
	return name, id, meta, ok
}
