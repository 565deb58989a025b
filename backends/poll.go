package backends

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"
)

// Poll is the Watch of a store that can only be read: it reads every interval,
// and at once when woken, and yields the difference. Zero means one second; a
// longer interval is cut to one, because a Change is due at least every second.
// wake is nil, or closed, where the store can't say that something changed.
//
// read returns every watched key and the store's revision, or zero where it has
// none; Poll counts then. It must not return a part: an error is better. Of a key
// that comes twice the first counts. An error is yielded when it starts and again
// when its text changes, not at every read. A read that finds nothing new yields
// a Change with neither Put nor Deleted.
func Poll(ctx context.Context, interval time.Duration, wake <-chan struct{}, read func(context.Context) ([]KV, int64, error)) iter.Seq2[Change, error] {
	if interval <= 0 || interval > time.Second {
		interval = time.Second
	}
	return func(yield func(Change, error) bool) {
		wake := wake
		var known map[string]KV // nil before the first good read
		var counted int64
		var said string // the error yielded last
		for {
			due := time.After(interval) // counted from read to read
			kvs, revision, err := read(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				if err.Error() != said && !yield(Change{}, err) {
					return
				}
				said = err.Error()
			} else {
				said = ""
				c := diff(known, kvs)
				if known == nil {
					known = make(map[string]KV, len(kvs))
				}
				apply(known, c)
				if c.Full || len(c.Put)+len(c.Deleted) > 0 {
					counted++
				}
				if c.Revision = revision; revision == 0 {
					c.Revision = counted
				}
				if !yield(c, nil) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case _, open := <-wake:
				if !open {
					wake = nil
				}
			case <-due:
			}
		}
	}
}

// diff is the Change that leads from known to kvs; a nil known makes it Full.
func diff(known map[string]KV, kvs []KV) Change {
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

func apply(known map[string]KV, c Change) {
	for _, kv := range c.Put {
		known[kv.Key] = kv
	}
	for _, key := range c.Deleted {
		delete(known, key)
	}
}

func cmpKey(a, b KV) int { return strings.Compare(a.Key, b.Key) }
