package template

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"muster/backends"
)

// A shared store lets all that watch the same prefixes share one watch of the
// store behind it: a hundred resources over one tree read it once.
type shared struct {
	backends.Store

	mu      sync.Mutex
	watches map[string]*watch // by prefixes
}

func share(s backends.Store) *shared {
	return &shared{Store: s, watches: make(map[string]*watch)}
}

// A watch is one watch of the store behind, and those who read it. Each of them
// has a Feed, and so takes what it is given at once.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	readers  map[*reader]bool
	whole    bool // a Full Change was there
	keys     map[string]backends.KV
	revision int64
	err      error // the last news, if it was one and nothing is known yet
	ended    bool
}

type reader struct {
	news chan news
	gone chan struct{}
}

type news struct {
	change backends.Change
	err    error
}

// Watch yields what the store's own Watch of prefixes does; who comes later
// gets all that is known first.
func (s *shared) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		r := &reader{news: make(chan news), gone: make(chan struct{})}
		leave, first := s.join(prefixes, r)
		defer leave()
		defer close(r.gone) // before leave, which waits for who is telling r something
		if first != nil && !yield(first.change, first.err) {
			return
		}
		for {
			select {
			case n, ok := <-r.news:
				if !ok || !yield(n.change, n.err) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// join adds r to the watch of prefixes, and returns what is known already.
func (s *shared) join(prefixes []string, r *reader) (leave func(), first *news) {
	prefixes = slices.Compact(slices.Sorted(slices.Values(prefixes)))
	name := strings.Join(prefixes, "\x00")
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watches[name]
	if w == nil {
		ctx, cancel := context.WithCancel(context.Background())
		w = &watch{cancel: cancel, done: make(chan struct{}), readers: make(map[*reader]bool), keys: make(map[string]backends.KV)}
		s.watches[name] = w
		go w.run(ctx, s.Store, prefixes)
	}
	first = w.add(r)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if w.remove(r) == 0 && s.watches[name] == w {
			delete(s.watches, name)
			w.cancel()
			<-w.done
		}
	}, first
}

func (w *watch) add(r *reader) *news {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		close(r.news)
		return nil
	}
	w.readers[r] = true
	switch {
	case w.whole:
		return &news{change: backends.Change{Revision: w.revision, Full: true, Put: slices.Collect(maps.Values(w.keys))}}
	case w.err != nil:
		return &news{err: w.err}
	}
	return nil
}

func (w *watch) remove(r *reader) (left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.readers, r)
	return len(w.readers)
}

func (w *watch) run(ctx context.Context, s backends.Store, prefixes []string) {
	defer close(w.done)
	for c, err := range s.Watch(ctx, prefixes) {
		w.tell(news{c, err})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for r := range w.readers {
		close(r.news)
	}
}

func (w *watch) tell(n news) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = n.err
	if n.err == nil {
		w.apply(n.change)
	}
	for r := range w.readers {
		select {
		case r.news <- n:
		case <-r.gone:
		}
	}
}

func (w *watch) apply(c backends.Change) {
	w.revision = c.Revision
	if c.Full {
		w.whole = true
		clear(w.keys)
	}
	for _, kv := range c.Put {
		w.keys[kv.Key] = kv
	}
	for _, key := range c.Deleted {
		delete(w.keys, key)
	}
}
