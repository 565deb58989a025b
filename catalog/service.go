package catalog

import (
	"cmp"
	"slices"
	"strings"

	"muster/backends"
)

// A change is what all edits of one Change have in common.
type change struct {
	*Snapshot // after it
	full      bool
}

// An edit is what a Change does to one ID of a service. A nil key is left as it
// is; one without a Key is deleted.
type edit struct {
	id          string
	plain, meta *backends.KV
}

// edits are what a Change does to one service, in its order: to the values, and
// to the metadata.
type edits struct{ plain, meta []keyEdit }

// A keyEdit is an edit of one key.
type keyEdit struct {
	id string
	kv *backends.KV
}

// merged returns the edits by ID, each once. The two halves are sorted, mostly: a
// store tells keys in order.
func (e *edits) merged() []edit {
	if e == nil {
		return nil
	}
	all := make([]edit, 0, max(len(e.plain), len(e.meta)))
	at := func(id string) *edit {
		if last := len(all) - 1; last < 0 || all[last].id != id {
			all = append(all, edit{id: id})
		}
		return &all[len(all)-1]
	}
	plain, meta := sorted(e.plain), sorted(e.meta)
	for len(plain) > 0 || len(meta) > 0 {
		if len(meta) == 0 || len(plain) > 0 && plain[0].id <= meta[0].id {
			at(plain[0].id).plain = plain[0].kv
			plain = plain[1:]
		} else {
			at(meta[0].id).meta = meta[0].kv
			meta = meta[1:]
		}
	}
	return all
}

func sorted(some []keyEdit) []keyEdit {
	byID := func(a, b keyEdit) int { return strings.Compare(a.id, b.id) }
	if !slices.IsSortedFunc(some, byID) {
		slices.SortStableFunc(some, byID)
	}
	return some
}

// apply returns the service after changes; the same pointer where they change
// nothing. A Full Change leaves nothing that it does not name. The receiver is
// nil for a name that was not known.
func (svc *Service) apply(c *change, name string, changes *edits) *Service {
	var old []*entry
	if svc != nil {
		old, name = svc.entries, svc.Name
	} else {
		name = strings.Clone(name)
	}
	edits := changes.merged()
	entries := make([]*entry, 0, max(len(old), len(edits)))
	same := true
	like, nothing := new(Announcement), new(entry)
	for len(old) > 0 || len(edits) > 0 {
		before, ed := nothing, edit{}
		switch order := compare(old, edits); {
		case order < 0:
			before, old = old[0], old[1:]
			if !c.full {
				entries = append(entries, before)
				continue
			}
			ed.id = before.endpoint.ID
		case order == 0:
			before, old = old[0], old[1:]
			ed, edits = edits[0], edits[1:]
		default:
			ed, edits = edits[0], edits[1:]
		}
		next := before.apply(c, name, ed, like)
		if next == nil {
			same = same && before == nothing
			continue
		}
		same = same && next == before
		entries = append(entries, next)
		if next.usable() {
			like = &next.endpoint.Announcement
		}
	}
	if same {
		return svc
	}
	next := &Service{Name: name, entries: entries}
	if len(entries) == 0 {
		next.Routes, next.left = svc.Routes, c.Revision
		return next
	}
	next.sum(svc)
	if len(next.Endpoints) == 0 && svc != nil {
		next.Routes = svc.Routes // its requests get 503, as those of a service that is gone
	}
	return next
}

// compare says which of the two has the lesser ID first.
func compare(old []*entry, edits []edit) int {
	switch {
	case len(edits) == 0:
		return -1
	case len(old) == 0:
		return 1
	}
	return strings.Compare(old[0].endpoint.ID, edits[0].id)
}

// sum fills what follows from the entries. A claim that before, the service until
// now, had too keeps its age: replacing one endpoint after the other does not make
// it younger.
func (svc *Service) sum(before *Service) {
	oldest := make(map[Route]int64)
	var texts []string // of routes; mostly all endpoints say the same
	var since int64    // the creation of the oldest of those in a row that do
	claim := func() {
		for _, text := range texts {
			r, _ := ParseRoute(text) // checked when it was read
			if created, ok := oldest[r]; !ok || since < created {
				oldest[r] = since
			}
		}
	}
	svc.Endpoints = make([]*Endpoint, 0, len(svc.entries))
	for _, e := range svc.entries {
		if e.broken != nil {
			svc.Bad = append(svc.Bad, e.broken.bad...)
		}
		if !e.usable() {
			continue
		}
		svc.Endpoints = append(svc.Endpoints, &e.endpoint)
		if slices.Equal(texts, e.endpoint.Routes) {
			since = min(since, e.endpoint.Created)
			continue
		}
		claim()
		texts, since = e.endpoint.Routes, e.endpoint.Created
	}
	claim()
	if before != nil && !before.Gone() {
		for _, c := range before.Routes {
			if created, ok := oldest[c.Route]; ok {
				oldest[c.Route] = min(created, c.Created)
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
