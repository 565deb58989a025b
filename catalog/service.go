package catalog

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"muster/backends"
)

// An entry is what the store has under one ID of a service, and what could be
// made of it. It never changes. A KV without Key is not there. There may be
// 100,000 of them, so it keeps no parsed form: its texts are read again when one
// of the two changes.
type entry struct {
	id          string
	plain, meta backends.KV
	endpoint    *Endpoint // nil: nothing that could be used
	broken      *broken   // nil: both can be read
}

// A broken is what an entry remembers while one of its keys can't be read.
type broken struct {
	plain, meta string // the last good values, "" for none
	bad         []Bad
}

// good are the last values that could be read, "" for none.
func (e *entry) good() (plain, meta string) {
	if e.broken != nil {
		return e.broken.plain, e.broken.meta
	}
	return e.plain.Value, e.meta.Value
}

// apply returns the service after edits; the same pointer where they change
// nothing. A Full edit leaves nothing that it does not name. The receiver is
// nil for a name that was not known.
func (svc *Service) apply(name string, edits map[string]*edit, full bool, revision int64) *Service {
	var old []*entry
	if svc != nil {
		old = svc.entries
	}
	entries := make([]*entry, 0, max(len(old), len(edits)))
	same := true
	like := new(Endpoint) // one of the same service, to share texts with
	for _, e := range old {
		ed, ok := edits[e.id]
		if !ok && full {
			ed = new(edit)
		}
		next := e.apply(name, ed, full, revision, like)
		same = same && next == e
		if next != nil {
			entries = append(entries, next)
			like = cmp.Or(next.endpoint, like)
		}
	}
	for id, ed := range edits {
		if _, ok := slices.BinarySearchFunc(old, id, byID); ok {
			continue
		}
		if next := (&entry{id: id}).apply(name, ed, full, revision, like); next != nil {
			entries = append(entries, next)
			like = cmp.Or(next.endpoint, like)
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
	next.sum(svc)
	if len(next.Endpoints) == 0 && svc != nil {
		next.Routes = svc.Routes // its requests get 503, as those of a service that is gone
	}
	return next
}

func byID(e *entry, id string) int { return strings.Compare(e.id, id) }

// apply returns the entry after ed, the same pointer where that changes
// nothing, nil where both keys are gone. In a Full Change a key that is not
// named is gone. like is an endpoint that may say the same.
func (e *entry) apply(service string, ed *edit, full bool, revision int64, like *Endpoint) *entry {
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
	var b broken
	goodPlain, goodMeta := e.good()
	value := b.read(plain, goodPlain, &b.plain, ParseValue)
	metadata := b.read(meta, goodMeta, &b.meta, ParseMetadata)
	if b.bad != nil {
		next.broken = &b
	}
	metadata.share(&like.Announcement)
	next.endpoint = next.join(service, value, metadata)
	if next.endpoint != nil && next.endpoint.Created == 0 {
		next.endpoint.Created = revision // the store has none
		if e.endpoint != nil {
			next.endpoint.Created = e.endpoint.Created
		}
	}
	return next
}

func orNothing(kv *backends.KV) backends.KV {
	if kv == nil {
		return backends.KV{}
	}
	return *kv
}

// read parses kv, or goes on with the last good value if kv is bad. It sets good
// to what it used. The zero Announcement, which has no State, says that there is
// none.
func (b *broken) read(kv backends.KV, lastGood string, good *string, parse func(string) (Announcement, error)) Announcement {
	if kv.Key == "" {
		return Announcement{}
	}
	a, err := parse(kv.Value)
	if err == nil {
		*good = kv.Value
		return a
	}
	if a, e := parse(lastGood); e == nil && lastGood != "" {
		*good = lastGood
		b.bad = append(b.bad, Bad{Key: kv.Key, Value: kv.Value, Err: err, Kept: true})
		return a
	}
	b.bad = append(b.bad, Bad{Key: kv.Key, Value: kv.Value, Err: err})
	return Announcement{}
}

// share makes a use the texts of like where they say the same, so that what all
// endpoints of a service say is in memory once.
func (a *Announcement) share(like *Announcement) {
	for _, text := range []struct{ own, other *string }{
		{&a.Proto, &like.Proto}, {&a.Zone, &like.Zone}, {&a.Version, &like.Version}, {&a.Host, &like.Host},
	} {
		if *text.own == *text.other {
			*text.own = *text.other
		}
	}
	if slices.Equal(a.Tags, like.Tags) {
		a.Tags = like.Tags
	}
	if slices.Equal(a.Routes, like.Routes) {
		a.Routes = like.Routes
	}
	if maps.Equal(a.Labels, like.Labels) {
		a.Labels = like.Labels
	}
	if a.Health != nil && like.Health != nil && *a.Health == *like.Health {
		a.Health = like.Health
	}
}

// join makes one endpoint of value and metadata, nil where there is none to be
// had. The value rules the address: templates read it too. Metadata alone is an
// endpoint only before the announcement and after it (starting, draining).
func (e *entry) join(service string, value, metadata Announcement) *Endpoint {
	a, kv := metadata, e.plain
	switch {
	case value.State == "" && (e.plain.Key != "" || a.Addr == "" || a.State == Up):
		return nil
	case value.State == "":
		kv = e.meta
	case a.State == "":
		a = value
	default:
		a.Addr, a.Proto = value.Addr, cmp.Or(a.Proto, value.Proto)
	}
	return &Endpoint{service, e.id, a, kv.Created, kv.Modified, kv.Lease}
}

// sum fills what follows from the entries. A claim that before, the service until
// now, had too keeps its age: replacing one endpoint after the other does not make
// it younger.
func (svc *Service) sum(before *Service) {
	oldest := make(map[Route]int64)
	since := make(map[Route]int64)
	if before != nil && !before.Gone() {
		for _, c := range before.Routes {
			since[c.Route] = c.Created
		}
	}
	svc.Endpoints = make([]*Endpoint, 0, len(svc.entries))
	var texts []string // what routes were parsed from; mostly all say the same
	var routes []Route
	for _, e := range svc.entries {
		if e.broken != nil {
			svc.Bad = append(svc.Bad, e.broken.bad...)
		}
		if e.endpoint == nil {
			continue
		}
		svc.Endpoints = append(svc.Endpoints, e.endpoint)
		if !slices.Equal(texts, e.endpoint.Routes) {
			texts, routes = e.endpoint.Routes, routes[:0]
			for _, text := range texts {
				r, _ := ParseRoute(text) // checked when it was read
				routes = append(routes, r)
			}
		}
		for _, r := range routes {
			if created, ok := oldest[r]; !ok || e.endpoint.Created < created {
				oldest[r] = e.endpoint.Created
			}
		}
	}
	for r, created := range oldest {
		if before, ok := since[r]; ok {
			created = min(created, before)
		}
		svc.Routes = append(svc.Routes, Claim{r, created})
	}
	slices.SortFunc(svc.Routes, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.String(), b.String()))
	})
}
