package backends

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"
)

// Poll is the Watch of a store that can only be read: it reads every interval,
// and at once when woken, and yields the difference. Zero means one second. wake
// is nil, or closed, where the store can't say that something changed.
//
// read returns every watched key and the store's revision, or zero where it has
// none; Poll counts then. It must not return a part: an error is better. Of a key
// that comes twice the first counts. An error is yielded when it starts and again
// when its text changes, not at every read. A read that finds nothing new yields
// a Change with neither Put nor Deleted. So does each second in which nothing is
// read because interval is longer: what a good read said counts until the next.
func Poll(ctx context.Context, interval time.Duration, wake <-chan struct{}, read func(context.Context) ([]KV, int64, error)) iter.Seq2[Change, error] {
	if interval <= 0 {
		interval = time.Second
	}
	return func(yield func(Change, error) bool) {
		p := poller{wake: wake, yield: yield}
		for {
			due := time.Now().Add(interval) // counted from read to read
			kvs, revision, err := read(ctx)
			if ctx.Err() != nil || !p.tell(kvs, revision, err) || !p.wait(ctx, due) {
				return
			}
		}
	}
}

// A poller is one Poll that runs.
type poller struct {
	wake  <-chan struct{}
	yield func(Change, error) bool

	known    map[string]KV // nil before the first good read
	revision int64
	counted  int64
	failed   string // the text of the last read's error
}

// tell yields what a read gave, and returns false when the loop has left.
func (p *poller) tell(kvs []KV, revision int64, err error) bool {
	if err != nil {
		said := p.failed
		p.failed = err.Error()
		return said == p.failed || p.yield(Change{}, err)
	}
	p.failed = ""
	c := Diff(p.known, kvs)
	if p.known == nil {
		p.known = make(map[string]KV, len(kvs))
	}
	Apply(p.known, c)
	if c.Full || len(c.Put)+len(c.Deleted) > 0 {
		p.counted++
	}
	if p.revision = revision; revision == 0 {
		p.revision = p.counted
	}
	c.Revision = p.revision
	return p.yield(c, nil)
}

// wait returns true when it is time to read, false when all is over.
func (p *poller) wait(ctx context.Context, due time.Time) bool {
	for {
		left := time.Until(due)
		select {
		case <-ctx.Done():
			return false
		case _, open := <-p.wake:
			if !open {
				p.wake = nil
			}
			return true
		case <-time.After(min(left, time.Second)):
			if left <= time.Second {
				return true
			}
			if p.failed == "" && !p.yield(Change{Revision: p.revision}, nil) {
				return false
			}
		}
	}
}

// Diff is the Change that leads from known to kvs; a nil known makes it Full. Of a
// key that comes twice in kvs the first counts.
func Diff(known map[string]KV, kvs []KV) Change {
	c := Change{Full: known == nil}
	seen := make(map[string]struct{}, len(kvs))
	for _, kv := range kvs {
		if _, twice := seen[kv.Key]; twice {
			continue
		}
		seen[kv.Key] = struct{}{}
		if old, ok := known[kv.Key]; !ok || old != kv {
			c.Put = append(c.Put, kv)
		}
	}
	for key := range known {
		if _, ok := seen[key]; !ok {
			c.Deleted = append(c.Deleted, key)
		}
	}
	slices.SortFunc(c.Put, cmpKey)
	slices.Sort(c.Deleted)
	return c
}

// Apply makes c part of known.
func Apply(known map[string]KV, c Change) {
	for _, kv := range c.Put {
		known[kv.Key] = kv
	}
	for _, key := range c.Deleted {
		delete(known, key)
	}
}

func cmpKey(a, b KV) int { return strings.Compare(a.Key, b.Key) }
