package backends

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// ErrClosed is what Next returns once the feed was closed or its context
// ended, and nothing is left to take.
var ErrClosed = errors.New("feed closed")

// A Feed runs one Watch on its own goroutine, which does nothing else, and
// merges what nobody has taken yet, so a slow reader skips ahead and memory
// stays bounded by the number of keys.
type Feed struct {
	stop context.CancelFunc
	done chan struct{} // closed when the watch has ended
	news chan struct{} // holds one token while pending or err wait to be taken

	mu      sync.Mutex // guards what follows
	pending pending
	err     error
}

// NewFeed starts to watch the keys under prefixes. It ends with ctx or Close.
func NewFeed(ctx context.Context, s Store, prefixes ...string) *Feed {
	ctx, stop := context.WithCancel(ctx)
	f := &Feed{stop: stop, done: make(chan struct{}), news: make(chan struct{}, 1)}
	go f.run(ctx, s, prefixes)
	return f
}

func (f *Feed) run(ctx context.Context, s Store, prefixes []string) {
	defer close(f.done)
	for c, err := range s.Watch(ctx, prefixes) {
		f.mu.Lock()
		if err != nil {
			f.err = err
		} else {
			f.pending.merge(c)
		}
		f.mu.Unlock()
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
}

// Next waits for news until ctx ends. The Change it returns is all that
// happened since the one before it. An error stays until it is taken and comes
// before later Changes; a newer error replaces it. After the feed has ended
// the rest is handed out, then Next returns [ErrClosed].
func (f *Feed) Next(ctx context.Context) (Change, error) {
	for {
		if c, err, ok := f.take(); ok {
			return c, err
		}
		select {
		case <-f.news:
		case <-f.done:
			// The last news may have come between the two.
			if c, err, ok := f.take(); ok {
				return c, err
			}
			return Change{}, ErrClosed
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
}

func (f *Feed) take() (c Change, err error, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		err, f.err = f.err, nil
		return Change{}, err, true
	}
	if !f.pending.news {
		return Change{}, nil, false
	}
	return f.pending.take(), nil, true
}

// Close stops the watch and waits until it has ended.
func (f *Feed) Close() {
	f.stop()
	<-f.done
}

// A pending is the sum of the Changes that nobody has taken yet: per key the
// newest thing that happened to it. As long as it is only one Change it is kept
// as it came: a Full one may hold 200,000 keys.
type pending struct {
	news     bool
	one      *Change // all there is; nil: it is in what follows
	full     bool
	revision int64
	put      map[string]KV
	deleted  map[string]struct{} // always empty when full
	final    map[string]KV       // what was put, and then deleted
}

func (p *pending) merge(c Change) {
	if !p.news || c.Full {
		*p = pending{news: true, one: &c}
		return
	}
	if first := p.one; first != nil {
		p.one = nil
		p.add(*first)
	}
	p.add(c)
}

func (p *pending) add(c Change) {
	p.revision = c.Revision
	p.full = p.full || c.Full
	if p.put == nil {
		p.put = make(map[string]KV, len(c.Put))
	}
	for _, kv := range c.Put {
		p.put[kv.Key] = kv
		delete(p.deleted, kv.Key)
		delete(p.final, kv.Key)
	}
	for _, kv := range c.Final {
		p.last(kv)
	}
	for _, key := range c.Deleted {
		if kv, ok := p.put[key]; ok {
			p.last(kv)
		}
		delete(p.put, key)
		if p.full {
			continue // the reader learns from its absence
		}
		if p.deleted == nil {
			p.deleted = make(map[string]struct{})
		}
		p.deleted[key] = struct{}{}
	}
}

func (p *pending) last(kv KV) {
	if p.final == nil {
		p.final = make(map[string]KV)
	}
	p.final[kv.Key] = kv
}

// take returns the sum as one Change, its keys sorted, and starts anew.
func (p *pending) take() Change {
	var c Change
	if p.one != nil {
		c = *p.one
		if !slices.IsSortedFunc(c.Put, cmpKey) {
			c.Put = slices.SortedFunc(slices.Values(c.Put), cmpKey)
		}
		if !slices.IsSorted(c.Deleted) {
			c.Deleted = slices.Sorted(slices.Values(c.Deleted))
		}
	} else {
		c = Change{Revision: p.revision, Full: p.full, Deleted: slices.Sorted(maps.Keys(p.deleted))}
		c.Put = slices.SortedFunc(maps.Values(p.put), cmpKey)
		c.Final = slices.SortedFunc(maps.Values(p.final), cmpKey)
	}
	*p = pending{}
	return c
}
