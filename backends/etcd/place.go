package etcd

import (
	"context"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"muster/backends"
)

// A place is where a watch is in etcd's history: what was yielded, up to which
// revision, and what is held back.
type place struct {
	spans    []span
	known    bool    // false: nothing of what follows counts, list
	revision int64   // the newest heard of
	safe     int64   // every span has come at least up to here
	seen     []int64 // by span, the revision of its newest event, or of the list
	keys     int     // how many there are
	last     event   // the newest that was yielded

	held  map[int]*batch // by group, what waits for the group's other spans
	asked bool           // for progress, because of held
}

// An event is a key as it was put, or that it was deleted, at a revision.
type event struct {
	backends.KV
	deleted bool
}

// as reports whether kvs, read at the event's revision, are what it left.
func (e event) as(kvs []*mvccpb.KeyValue) bool {
	if e.deleted {
		return len(kvs) == 0
	}
	return len(kvs) == 1 && fromEtcd(kvs[0]) == e.KV
}

// lose forgets the place: the next thing is a list.
func (p *place) lose() { p.known = false }

// listed is the place after a list.
func (p *place) listed(kvs []backends.KV, revision int64) {
	*p = place{spans: p.spans, known: true, revision: revision, safe: revision, keys: len(kvs)}
	p.seen = slices.Repeat([]int64{revision}, len(p.spans))
	for _, kv := range kvs {
		if kv.Modified > p.last.Modified {
			p.last = event{KV: kv}
		}
	}
	// Not the page that they are part of.
	p.last.Key, p.last.Value = strings.Clone(p.last.Key), strings.Clone(p.last.Value)
	p.fresh()
}

// fresh forgets what only one stream knew.
func (p *place) fresh() {
	p.held = make(map[int]*batch)
	p.asked = false
}

// still asks etcd for proof that it is the one we followed: the last key we know
// of, at its own revision. A wiped etcd that has come as far again shows another
// one. false means to list, which few keys are in any case.
func (p *place) still(ctx context.Context, kv etcdserverpb.KVClient) (bool, error) {
	resume := p.known && p.keys >= fewKeys && len(p.held) == 0
	req := &etcdserverpb.RangeRequest{Key: []byte(p.spans[0].from), CountOnly: true} // does it answer?
	if resume {
		req = &etcdserverpb.RangeRequest{Key: []byte(p.last.Key), Revision: p.last.Modified}
	}
	resp, err := kv.Range(ctx, req)
	switch {
	case is(err, rpctypes.ErrGRPCCompacted), is(err, rpctypes.ErrGRPCFutureRev):
		return false, nil
	case err != nil:
		return false, err
	case !resume || resp.Header.Revision < p.safe:
		return false, nil
	}
	resume = p.last.as(resp.Kvs)
	if resume {
		p.fresh()
	}
	return resume, nil
}

// take moves on by one response about the span i, and returns what may be
// yielded of it. needProgress says that more may be yielded after etcd says where
// it stands.
func (p *place) take(i int, r *etcdserverpb.WatchResponse) (c backends.Change, needProgress bool) {
	out := new(batch)
	switch {
	case r.WatchId < 0: // an answer to askProgress: every watch is there
		p.revision = max(p.revision, r.Header.Revision)
		p.safe = max(p.safe, r.Header.Revision)
		p.release(r.Header.Revision, out)
	case len(r.Events) == 0: // etcd's own notice that this watch is there
		p.notice(r.Header.Revision)
	default:
		p.add(i, r.Events, out)
	}
	if needProgress = len(p.held) > 0 && !p.asked; needProgress {
		p.asked = true
	}
	c = out.change()
	c.Revision = p.revision
	return c, needProgress
}

// release lets go what was held back of up to revision.
func (p *place) release(revision int64, out *batch) {
	for group, b := range p.held {
		if b.newest <= revision {
			out.merge(b)
			delete(p.held, group)
		}
	}
	p.asked = false
}

// notice takes in that a watch has come up to revision.
func (p *place) notice(revision int64) {
	if len(p.spans) == 1 {
		p.revision = max(p.revision, revision)
		p.safe = max(p.safe, revision)
	}
}

// add puts a span's events, which are whole revisions, into out, or holds them
// back until the other spans of its group are known to be as far.
func (p *place) add(i int, events []*mvccpb.Event, out *batch) {
	if i < 0 || i >= len(p.spans) || len(events) == 0 {
		return
	}
	s := p.spans[i]
	alone := !slices.ContainsFunc(p.spans, func(o span) bool { return o.group == s.group && o.from != s.from })
	into := out
	if !alone {
		if into = p.held[s.group]; into == nil {
			into = new(batch)
		}
	}
	for _, e := range events {
		revision := e.Kv.ModRevision
		if revision <= p.seen[i] || !s.wants(string(e.Kv.Key)) {
			continue
		}
		ev := event{KV: fromEtcd(e.Kv), deleted: e.Type == mvccpb.Event_DELETE}
		into.add(ev)
		switch {
		case ev.deleted:
			p.keys--
		case e.Kv.Version == 1:
			p.keys++
		}
		if revision >= p.last.Modified {
			p.last = ev
		}
	}
	newest := events[len(events)-1].Kv.ModRevision
	p.seen[i] = max(p.seen[i], newest)
	if len(p.spans) == 1 {
		p.safe = max(p.safe, newest)
	}
	if alone || len(into.events) == 0 {
		p.revision = max(p.revision, newest)
		return
	}
	p.held[s.group] = into
}

// A batch is events, those of one key in their order. What a later one of the key
// makes of no matter is left out in time, so that a batch that has to wait is as
// large as its keys are many, not its events.
type batch struct {
	events []event
	newest int64 // revision
	kept   int   // of events, when they were reduced
}

// reduceAt is how many events are let be.
const reduceAt = 100

func (b *batch) add(e event) {
	b.events = append(b.events, e)
	b.newest = max(b.newest, e.Modified)
	b.mayReduce()
}

func (b *batch) merge(o *batch) {
	b.events = append(b.events, o.events...)
	b.mayReduce()
}

func (b *batch) mayReduce() {
	if len(b.events) >= max(reduceAt, 2*b.kept) {
		b.reduce()
	}
}

// reduce sorts the events by key and leaves the newest of each, and before one
// that deletes the put that it deleted.
func (b *batch) reduce() {
	slices.SortStableFunc(b.events, func(a, b event) int { return strings.Compare(a.Key, b.Key) })
	newest := func(i int) bool { return i+1 == len(b.events) || b.events[i+1].Key != b.events[i].Key }
	kept := b.events[:0]
	for i, e := range b.events {
		if newest(i) || !e.deleted && b.events[i+1].deleted && newest(i+1) {
			kept = append(kept, e)
		}
	}
	clear(b.events[len(kept):])
	b.events, b.kept = kept, len(kept)
}

// change is the newest event of each key, and what was put before a delete.
func (b *batch) change() (c backends.Change) {
	b.reduce()
	for i, e := range b.events {
		switch {
		case i+1 < len(b.events) && b.events[i+1].Key == e.Key:
			c.Final = append(c.Final, e.KV)
		case e.deleted:
			c.Deleted = append(c.Deleted, e.Key)
		default:
			c.Put = append(c.Put, e.KV)
		}
	}
	return c
}
