package catalog

import (
	"cmp"
	"strings"

	"muster/backends"
)

// An entry is what the store has under one ID of a service, and what could be
// made of it. It never changes. There may be 100,000 of them, so it is one piece
// of memory beside its text, and keeps neither its keys, which follow from where
// it stands, nor what was parsed on the way: the texts are read again when one of
// the two changes.
type entry struct {
	endpoint          Endpoint // its ID always counts; without a State the rest does not
	plain, meta       held
	hasPlain, hasMeta bool    // whether the keys are there
	broken            *broken // nil: both can be read
}

// A held is what the store has at one key.
type held struct {
	text                     string
	created, modified, lease int64
}

// A broken is what an entry remembers while one of its keys can't be read.
type broken struct {
	plain, meta string // the last good values, "" for none
	bad         []Bad
}

// usable reports whether there is an endpoint.
func (e *entry) usable() bool { return e.endpoint.State != "" }

// good are the last values that could be read, "" for none.
func (e *entry) good() (plain, meta string) {
	if e.broken != nil {
		return e.broken.plain, e.broken.meta
	}
	return e.plain.text, e.meta.text
}

// apply returns the entry after ed, the same pointer where that changes
// nothing, nil where both keys are gone. In a Full Change a key that is not
// named is gone. like is another announcement of the service, to share with.
func (e *entry) apply(c *change, service string, ed edit, like *Announcement) *entry {
	plain, hasPlain, meta, hasMeta := e.plain, e.hasPlain, e.meta, e.hasMeta
	if ed.plain != nil || c.full {
		plain, hasPlain = hold(ed.plain)
	}
	if ed.meta != nil || c.full {
		meta, hasMeta = hold(ed.meta)
	}
	switch {
	case !hasPlain && !hasMeta:
		return nil
	case plain == e.plain && hasPlain == e.hasPlain && meta == e.meta && hasMeta == e.hasMeta:
		return e
	}
	next := &entry{plain: plain, hasPlain: hasPlain, meta: meta, hasMeta: hasMeta}
	id := next.own(ed.id, e)
	var b broken
	goodPlain, goodMeta := e.good()
	var value, metadata Announcement
	if next.hasPlain {
		value = b.read(next.plain.text, goodPlain, &b.plain, func() string { return c.key(service, id) }, ParseValue)
	}
	if next.hasMeta {
		metadata = b.read(next.meta.text, goodMeta, &b.meta, func() string { return c.metaKey(service, id) },
			func(text string) (Announcement, error) { return parseMetadata(text, like) })
	}
	if b.bad != nil {
		bad := b
		next.broken = &bad
	}
	next.endpoint.Service, next.endpoint.ID = service, id
	next.join(&value, &metadata)
	if next.usable() && next.endpoint.Created == 0 {
		next.endpoint.Created = c.Revision // the store has none
		if e.usable() {
			next.endpoint.Created = e.endpoint.Created
		}
	}
	return next
}

// hold is what kv says; nil, or one without a Key, that the key is not there.
func hold(kv *backends.KV) (h held, there bool) {
	if kv == nil || kv.Key == "" {
		return held{}, false
	}
	return held{kv.Value, kv.Created, kv.Modified, kv.Lease}, true
}

// own gives the entry texts of its own, or those of before, so that it keeps
// nothing of the answer of the store that they came in, and returns its ID.
func (e *entry) own(id string, before *entry) string {
	keep := func(text string, same ...string) string {
		for _, s := range same {
			if text == s {
				return s
			}
		}
		return strings.Clone(text)
	}
	id = keep(id, before.endpoint.ID)
	e.plain.text = keep(e.plain.text, id, before.plain.text) // HOST:PORT is the usual ID
	e.meta.text = keep(e.meta.text, before.meta.text)
	return id
}

// read parses text, or goes on with the last good one if text is bad. It sets
// good to what it used. The zero Announcement, which has no State, says that there
// is none.
func (b *broken) read(text, lastGood string, good *string, key func() string, parse func(string) (Announcement, error)) Announcement {
	a, err := parse(text)
	if err == nil {
		*good = text
		return a
	}
	if a, e := parse(lastGood); e == nil && lastGood != "" {
		*good = lastGood
		b.bad = append(b.bad, Bad{Key: key(), Value: text, Err: err, Kept: true})
		return a
	}
	b.bad = append(b.bad, Bad{Key: key(), Value: text, Err: err})
	return Announcement{}
}

// join makes the endpoint of value and metadata, where there is one to be had.
// The value rules the address: templates read it too. Metadata alone is an endpoint
// only before the announcement and after it (starting, draining).
func (e *entry) join(value, metadata *Announcement) {
	a, from := metadata, &e.plain
	switch {
	case value.State == "" && (e.hasPlain || a.Addr == "" || a.State == Up):
		return
	case value.State == "":
		from = &e.meta
	case a.State == "":
		a = value
	default:
		a.Addr, a.Proto = value.Addr, cmp.Or(a.Proto, value.Proto)
	}
	e.endpoint.Announcement = *a
	e.endpoint.Created, e.endpoint.Modified, e.endpoint.Lease = from.created, from.modified, from.lease
}

// in is the entry as others see it, with its keys.
func (s *Snapshot) in(e *entry) Entry {
	out := Entry{Place: Place{e.endpoint.Service, e.endpoint.ID}}
	if e.hasPlain {
		out.Plain = e.plain.kv(s.key(out.Service, out.ID))
	}
	if e.hasMeta {
		out.Meta = e.meta.kv(s.metaKey(out.Service, out.ID))
	}
	if e.usable() {
		out.Endpoint = &e.endpoint
	}
	return out
}

func (h held) kv(key string) backends.KV {
	return backends.KV{Key: key, Value: h.text, Created: h.created, Modified: h.modified, Lease: h.lease}
}
