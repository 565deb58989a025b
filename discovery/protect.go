package discovery

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"muster/backends"
	"muster/catalog"
)

// The limits of the protection. Expiries that stay below them are believed.
const (
	massWithin  = 30 * time.Second // are counted together
	massService = 50               // percent of a service
	massAll     = 15               // percent of all endpoints
	massLeast   = 2                // are never a mass, unless a service has no more
	holdAtMost  = 10 * time.Minute
)

// A guard decides which deletes to believe. An endpoint whose key expired is as
// good as its sidekick; when many expire at once, it is rather the store or the
// network that is ill, and those that still answer their check stay.
//
// It belongs to [Watcher.Run]'s goroutine, but for the holds that it hands to
// the verifier, whose fields of their own nobody else touches.
type guard struct {
	on     bool
	held   map[catalog.Place]*hold
	recent []*hold // expiries that were believed, the oldest first

	// Since there were no holds:
	returned, gone int  // that have ended
	found          bool // one was asked, and answered
	told           int  // and that was logged, of so many: until then somebody may have meant it
}

// A hold is an endpoint whose expiry is not believed, or not yet.
type hold struct {
	catalog.Entry
	at    time.Time // when its key went
	shown bool      // it is in the snapshot; if not, it comes back when it answers

	expired bool // the verifier's: its lease is known to be gone
	misses  int  // the verifier's: checks that failed in a row
}

// filter takes a Change of the store and returns the one to apply, without the
// deletes that are not believed, and reports whether the holds are others now.
func (g *guard) filter(old *catalog.Snapshot, c backends.Change, now time.Time) (_ backends.Change, changed bool) {
	if len(g.held) > 0 {
		c, changed = g.keep(old, c)
	}
	if !g.on || !c.Full && len(c.Deleted) == 0 {
		return c, changed
	}
	suspects := g.suspects(old, c)
	if len(suspects) == 0 {
		return c, changed
	}
	next := old.Apply(c)
	// What is announced under another key has moved, and was not lost.
	here := addresses(func(yield func(*catalog.Endpoint) bool) {
		for _, service := range services(suspects) {
			if svc := next.Service(service); svc != nil {
				for _, e := range svc.Endpoints {
					yield(e)
				}
			}
		}
	})
	suspects = slices.DeleteFunc(suspects, func(h *hold) bool { return here.elsewhere(h) })
	for _, h := range suspects {
		h.at = now
	}
	held := g.mass(old, next, suspects, now)
	if len(held) == 0 {
		return c, changed
	}
	anywhere := addresses(func(yield func(*catalog.Endpoint) bool) {
		for e := range next.Entries() {
			if e.Endpoint != nil {
				yield(e.Endpoint)
			}
		}
	})
	held = slices.DeleteFunc(held, anywhere.elsewhere)
	for _, h := range held {
		g.held[h.Place] = h
	}
	return undelete(c, held), changed || len(held) > 0
}

// keep lets the held endpoints stay through c, and ends the hold of those that
// are announced again or whose address is.
func (g *guard) keep(old *catalog.Snapshot, c backends.Change) (_ backends.Change, changed bool) {
	again := make(map[catalog.Place]bool)
	there := make(map[string]bool, len(c.Put)+len(c.Deleted)) // keys that c names, but for deletes that are undone
	var put addressBook
	if len(c.Put) > 0 {
		next := old.Apply(c)
		put = addresses(func(yield func(*catalog.Endpoint) bool) {
			for _, kv := range c.Put {
				there[kv.Key] = true
				p, _, ok := old.Place(kv.Key)
				if again[p] = ok; !ok {
					continue
				}
				if e := next.Entry(p).Endpoint; e != nil {
					yield(e)
				}
			}
		})
	}
	var stay, over []*hold
	for _, h := range g.held {
		if again[h.Place] || put.elsewhere(h) {
			over = append(over, h)
			delete(g.held, h.Place)
			g.returned++
		} else {
			stay = append(stay, h)
		}
	}
	return dropped(undelete(c, stay), over, there), len(over) > 0
}

// undelete takes the keys of holds out of what c deletes.
func undelete(c backends.Change, holds []*hold) backends.Change {
	keys := make(map[string]bool)
	for _, h := range holds {
		for _, kv := range []backends.KV{h.Plain, h.Meta} {
			if kv.Key != "" && h.shown {
				if keys[kv.Key] = true; c.Full {
					c.Put = append(c.Put[:len(c.Put):len(c.Put)], kv)
				}
			}
		}
	}
	if len(keys) > 0 {
		c.Deleted = slices.DeleteFunc(slices.Clone(c.Deleted), func(key string) bool { return keys[key] })
	}
	return c
}

// dropped makes c delete the keys of holds that have ended, but for those that
// c names: the store has them no more.
func dropped(c backends.Change, holds []*hold, named map[string]bool) backends.Change {
	if c.Full {
		return c
	}
	for _, key := range c.Deleted {
		named[key] = true
	}
	for _, h := range holds {
		for _, kv := range []backends.KV{h.Plain, h.Meta} {
			if kv.Key != "" && h.shown && !named[kv.Key] {
				c.Deleted = append(c.Deleted[:len(c.Deleted):len(c.Deleted)], kv.Key)
			}
		}
	}
	return c
}

// An addressBook says which places announce an address as up.
type addressBook map[string][]catalog.Place

func addresses(endpoints iter.Seq[*catalog.Endpoint]) addressBook {
	book := make(addressBook)
	for e := range endpoints {
		p := catalog.Place{Service: e.Service, ID: e.ID}
		if e.State == catalog.Up && !slices.Contains(book[e.Addr], p) {
			book[e.Addr] = append(book[e.Addr], p)
		}
	}
	return book
}

// elsewhere reports whether the address of h is announced under another key.
func (b addressBook) elsewhere(h *hold) bool {
	return slices.ContainsFunc(b[h.Endpoint.Addr], func(p catalog.Place) bool { return p != h.Place })
}

func services(holds []*hold) []string {
	var names []string
	for _, h := range holds {
		names = append(names, h.Service)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// suspects are the endpoints that c takes away though they did not say that
// they leave, and whose key hung on a lease.
func (g *guard) suspects(old *catalog.Snapshot, c backends.Change) (list []*hold) {
	suspect := func(e catalog.Entry) {
		_, known := g.held[e.Place]
		if !known && e.Endpoint != nil && e.Endpoint.State == catalog.Up && e.Plain.Lease != 0 {
			list = append(list, &hold{Entry: e, shown: true})
		}
	}
	leaving := leaving(old, c.Final)
	if !c.Full {
		for _, key := range c.Deleted {
			if p, meta, ok := old.Place(key); ok && !meta && !leaving[p] {
				suspect(old.Entry(p))
			}
		}
		return list
	}
	there := make(map[string]bool, len(c.Put))
	for _, kv := range c.Put {
		there[kv.Key] = true
	}
	for e := range old.Entries() {
		if e.Plain.Key != "" && !there[e.Plain.Key] && !leaving[e.Place] {
			suspect(e)
		}
	}
	return list
}

// leaving are the places whose metadata said last that they drain: between two
// Changes they have come to their end.
func leaving(s *catalog.Snapshot, final []backends.KV) map[catalog.Place]bool {
	places := make(map[catalog.Place]bool)
	for _, kv := range final {
		if p, meta, ok := s.Place(kv.Key); ok && meta {
			a, err := catalog.ParseMetadata(kv.Value)
			places[p] = err == nil && a.State == catalog.Draining
		}
	}
	return places
}

// mass returns those of the suspects that are part of a mass, and those that
// were believed shortly before and turn out to be.
func (g *guard) mass(old, next *catalog.Snapshot, suspects []*hold, now time.Time) (held []*hold) {
	i := slices.IndexFunc(g.recent, func(h *hold) bool { return now.Sub(h.at) < massWithin })
	if i < 0 {
		i = len(g.recent)
	}
	g.recent = slices.Clone(g.recent[i:])

	all := len(suspects) + len(g.recent) + len(g.held)
	total := len(g.recent)
	for svc := range old.All() {
		total += len(svc.Endpoints)
	}
	every := over(all, total, massAll)
	count := make(map[string]int) // expiries by service
	was := make(map[string]int)   // endpoints that were believed to have gone
	for _, h := range g.recent {
		count[h.Service]++
		was[h.Service]++
	}
	for p := range g.held {
		count[p.Service]++
	}
	for _, h := range suspects {
		count[h.Service]++
	}
	judged := make(map[string]bool)
	mass := func(service string) bool {
		verdict, ok := judged[service]
		if !ok {
			size := was[service]
			if svc := old.Service(service); svc != nil {
				size += len(svc.Endpoints)
			}
			verdict = every || over(count[service], size, massService) || g.emptied(next, service)
			judged[service] = verdict
		}
		return verdict
	}
	for _, h := range suspects {
		if mass(h.Service) {
			held = append(held, h)
		} else {
			g.recent = append(g.recent, h)
		}
	}
	if len(held) == 0 {
		return nil
	}
	g.recent = slices.DeleteFunc(g.recent, func(h *hold) bool {
		if !every && !judged[h.Service] {
			return false
		}
		if next.Entry(h.Place).Plain.Key == "" { // not back meanwhile
			h.shown = false
			held = append(held, h)
		}
		return true
	})
	return held
}

func over(n, of, percent int) bool { return n > massLeast && 100*n > percent*of }

// emptied reports whether service has no endpoint left that is there for sure.
func (g *guard) emptied(next *catalog.Snapshot, service string) bool {
	svc := next.Service(service)
	return svc == nil || !slices.ContainsFunc(svc.Endpoints, func(e *catalog.Endpoint) bool {
		_, held := g.held[catalog.Place{Service: service, ID: e.ID}]
		return e.State == catalog.Up && !held
	})
}

// off ends every hold and returns what was not believed so far.
func (g *guard) off() backends.Change {
	ended := slices.Collect(maps.Values(g.held))
	clear(g.held)
	g.recent = nil
	return dropped(backends.Change{}, ended, make(map[string]bool))
}

// A verdict is what the verifier found out about a hold.
type verdict struct {
	hold  *hold
	gone  bool   // believe its delete
	why   string // of gone
	found bool   // it answers
}

// take returns what the verdicts change. Those about holds that have ended
// count no more.
func (g *guard) take(verdicts []verdict, log *slog.Logger) (c backends.Change, changed bool) {
	var ended []*hold
	found := g.found
	for _, v := range verdicts {
		h := v.hold
		if g.held[h.Place] != h {
			continue
		}
		switch {
		case v.gone:
			log.Debug("expiry is believed", "service", h.Service, "endpoint", h.ID, "addr", h.Endpoint.Addr, "reason", v.why)
			delete(g.held, h.Place)
			ended = append(ended, h)
			g.gone++
		case v.found && h.shown:
			g.found = true
		case v.found:
			g.found, h.shown = true, true
			c.Put = append(c.Put, h.Plain)
			if h.Meta.Key != "" {
				c.Put = append(c.Put, h.Meta)
			}
		}
	}
	return dropped(c, ended, make(map[string]bool)), len(ended) > 0 || g.found != found
}

// judge asks about one hold: whether its lease lives, so that somebody deleted
// the key and meant it, and whether the endpoint answers its check.
func (w *Watcher) judge(ctx context.Context, h *hold, alive func(int64) (bool, error)) verdict {
	if !h.expired && alive != nil {
		living, err := alive(h.Plain.Lease)
		switch {
		case err != nil: // nobody can tell now
		case living:
			return verdict{hold: h, gone: true, why: "deleted by hand"}
		default:
			h.expired = true
		}
	}
	if time.Since(h.at) > holdAtMost {
		return verdict{hold: h, gone: true, why: "held for too long"}
	}
	err := w.cfg.Probe(ctx, *h.Endpoint)
	if err == nil {
		h.misses = 0
		return verdict{hold: h, found: true}
	}
	if h.misses++; h.misses < missesToGo && !refused(err) {
		return verdict{hold: h}
	}
	return verdict{hold: h, gone: true, why: err.Error()}
}
