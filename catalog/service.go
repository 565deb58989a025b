package catalog

import (
	"cmp"
	"slices"
	"strings"

	"muster/backends"
)

// An entry is what the store has under one ID of a service, and what could be
// made of it. It never changes. A KV without Key is not there.
type entry struct {
	id          string
	plain, meta backends.KV

	value    Announcement // the last good form of plain
	metadata Announcement // the last good form of meta
	endpoint *Endpoint    // nil: nothing that could be used
	bad      []Bad
}

// apply returns the service after edits; the same pointer where they change
// nothing. A Full edit leaves nothing that it does not name. The receiver is
// nil for a name that was not known.
func (svc *Service) apply(name string, edits map[string]*edit, full bool, revision int64, prefix string) *Service {
	var old []*entry
	if svc != nil {
		old = svc.entries
	}
	entries := make([]*entry, 0, len(old)+len(edits))
	same := true
	for _, e := range old {
		ed, ok := edits[e.id]
		if !ok && full {
			ed = new(edit)
		}
		next := e.apply(name, ed, full, prefix)
		same = same && next == e
		if next != nil {
			entries = append(entries, next)
		}
	}
	for id, ed := range edits {
		if _, ok := slices.BinarySearchFunc(old, id, byID); ok {
			continue
		}
		if next := (&entry{id: id}).apply(name, ed, full, prefix); next != nil {
			entries = append(entries, next)
			same = false
		}
	}
	if same {
		return svc
	}
	slices.SortFunc(entries, func(a, b *entry) int { return strings.Compare(a.id, b.id) })
	next := &Service{Name: name, entries: entries}
	if len(entries) == 0 {
		next.Routes, next.left = svc.Routes, revision
		return next
	}
	next.sum()
	return next
}

func byID(e *entry, id string) int { return strings.Compare(e.id, id) }

// apply returns the entry after ed, the same pointer where that changes
// nothing, nil where both keys are gone. In a Full Change a key that is not
// named is gone.
func (e *entry) apply(name string, ed *edit, full bool, prefix string) *entry {
	if ed == nil {
		return e
	}
	plain, meta := e.plain, e.meta
	if ed.plain != nil || full {
		plain = orNothing(ed.plain)
	}
	if ed.meta != nil || full {
		meta = orNothing(ed.meta)
	}
	if plain.Key == "" && meta.Key == "" {
		return nil
	}
	if plain == e.plain && meta == e.meta {
		return e
	}
	next := &entry{id: e.id, plain: plain, meta: meta}
	next.value = next.read(plain, e.plain, e.value, ParseValue)
	next.metadata = next.read(meta, e.meta, e.metadata, ParseMetadata)
	next.endpoint = next.join(name)
	return next
}

func orNothing(kv *backends.KV) backends.KV {
	if kv == nil {
		return backends.KV{}
	}
	return *kv
}

// read parses kv, or goes on with the last good form, old, if kv is bad. The
// zero Announcement, which has no State, says that there is none.
func (e *entry) read(kv, oldKV backends.KV, old Announcement, parse func(string) (Announcement, error)) Announcement {
	if kv.Key == "" {
		return Announcement{}
	}
	a, err := parse(kv.Value)
	if err == nil {
		return a
	}
	if oldKV.Key == "" {
		old = Announcement{}
	}
	e.bad = append(e.bad, Bad{Key: kv.Key, Value: kv.Value, Err: err, Kept: old.State != ""})
	return old
}

// join makes one endpoint of value and metadata, nil where there is none to be
// had. The value rules the address: templates read it too. Metadata alone is an
// endpoint only before the announcement and after it (starting, draining).
func (e *entry) join(name string) *Endpoint {
	a, kv := e.metadata, e.plain
	switch {
	case e.value.State == "" && (e.plain.Key != "" || a.Addr == "" || a.State == Up):
		return nil
	case e.value.State == "":
		kv = e.meta
	case a.State == "":
		a = e.value
	default:
		a.Addr, a.Proto = e.value.Addr, cmp.Or(a.Proto, e.value.Proto)
	}
	return &Endpoint{name, e.id, a, kv.Created, kv.Modified, kv.Lease}
}

// sum fills what follows from the entries.
func (svc *Service) sum() {
	oldest := make(map[Route]int64)
	for _, e := range svc.entries {
		svc.Bad = append(svc.Bad, e.bad...)
		if e.endpoint == nil {
			continue
		}
		svc.Endpoints = append(svc.Endpoints, e.endpoint)
		for _, text := range e.endpoint.Routes {
			r, _ := ParseRoute(text) // checked when it was read
			if created, ok := oldest[r]; !ok || e.endpoint.Created < created {
				oldest[r] = e.endpoint.Created
			}
		}
	}
	for r, created := range oldest {
		svc.Routes = append(svc.Routes, Claim{r, created})
	}
	slices.SortFunc(svc.Routes, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.String(), b.String()))
	})
}
