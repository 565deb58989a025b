package template

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"

	"muster/backends"
)

// maxTogether is how many sets share one watch at most: the store answers for
// each prefix of it before the watch begins.
const maxTogether = 500

// A shared store lets all that watch the same set of keys share one watch of the
// store behind it, and where the store can, those of different sets too: a
// hundred resources over one tree read it once, over a hundred trees there is
// one stream.
type shared struct {
	backends.Store

	mu   sync.Mutex // guards all of the sets and sources
	sets map[string]*watched
}

func share(s backends.Store) *shared {
	return &shared{Store: s, sets: make(map[string]*watched)}
}

// A watched set is what is known of it, and those who read it. Each of them has
// a Feed, and so takes what it is given at once.
type watched struct {
	set
	source   *source
	readers  map[*reader]bool
	held     int  // how often hold names it
	whole    bool // a Full Change was there
	keys     map[string]backends.KV
	revision int64
	err      error // the last news, if it was one
}

// A source is one watch of the store behind, for some sets.
type source struct {
	index  index
	wanted int // how many of its sets are
	cancel context.CancelFunc
	done   chan struct{}
	ended  bool
}

type reader struct {
	news chan news
	gone chan struct{}
}

type news struct {
	change backends.Change
	err    error
}

// hold keeps sets watched until it is released, together where the store can.
func (s *shared) hold(sets []set) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all, fresh []*watched
	for _, set := range sets {
		w := s.sets[set.name]
		if w == nil {
			w = s.add(set)
			fresh = append(fresh, w)
		}
		w.held++
		all = append(all, w)
	}
	most := 1
	if _, ok := s.Store.(backends.Together); ok {
		most = maxTogether
	}
	for some := range slices.Chunk(fresh, most) {
		s.start(some)
	}
	return func() {
		for _, w := range all {
			s.drop(w, func() { w.held-- })
		}
	}
}

// add is called with mu held, and start soon after it.
func (s *shared) add(set set) *watched {
	w := &watched{set: set, readers: make(map[*reader]bool), keys: make(map[string]backends.KV)}
	s.sets[set.name] = w
	return w
}

// start starts one watch for all of sets. It is called with mu held.
func (s *shared) start(sets []*watched) {
	ctx, cancel := context.WithCancel(context.Background())
	src := &source{index: newIndex(), wanted: len(sets), cancel: cancel, done: make(chan struct{})}
	for _, w := range sets {
		w.source = src
		src.index.add(w.set)
	}
	watch := s.Store.Watch
	if len(sets) > 1 {
		watch = s.Store.(backends.Together).WatchTogether
	}
	go s.run(src, watch(ctx, src.index.prefixes()))
}

// drop lets go of w and, when nobody wants it any more, ends what nobody wants.
func (s *shared) drop(w *watched, letGo func()) {
	s.mu.Lock()
	letGo()
	src := w.source
	end := false
	if len(w.readers)+w.held == 0 && s.sets[w.name] == w {
		delete(s.sets, w.name)
		src.wanted--
		end = src.wanted == 0
	}
	s.mu.Unlock()
	if end {
		src.cancel()
		<-src.done
	}
}

// Watch yields what the store's own Watch of prefixes does, but not that the
// store is there while nothing changes; who comes later gets all that is known
// first.
func (s *shared) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		r := &reader{news: make(chan news), gone: make(chan struct{})}
		w, first := s.join(newSet(prefixes), r)
		defer s.drop(w, func() { delete(w.readers, r) })
		defer close(r.gone) // before drop, which waits for who is telling r something
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

// join adds r to the readers of set, and returns what is known already.
func (s *shared) join(set set, r *reader) (w *watched, first *news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w = s.sets[set.name]; w == nil {
		w = s.add(set)
		s.start([]*watched{w})
	}
	w.readers[r] = true
	switch {
	case w.source.ended:
		close(r.news)
	case w.whole:
		first = &news{change: backends.Change{Revision: w.revision, Full: true, Put: slices.Collect(maps.Values(w.keys))}}
	case w.err != nil:
		first = &news{err: w.err}
	}
	return w, first
}

// run shares out what comes. Where the store refuses some of it, each set gets a
// watch of its own.
func (s *shared) run(src *source, changes iter.Seq2[backends.Change, error]) {
	defer close(src.done)
	defer s.ended(src)
	for c, err := range changes {
		if errors.Is(err, backends.ErrDenied) && s.part(src) {
			return
		}
		s.tell(src, c, err)
	}
}

func (s *shared) ended(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src.cancel()
	src.ended = true
	for w := range s.of(src) {
		for r := range w.readers {
			close(r.news)
		}
	}
}

// of are the sets of src that are wanted. It is used with mu held.
func (s *shared) of(src *source) iter.Seq[*watched] {
	return func(yield func(*watched) bool) {
		for _, name := range src.index.names {
			if w := s.sets[name]; w != nil && w.source == src && !yield(w) {
				return
			}
		}
	}
}

// part gives each of several sets a watch of its own.
func (s *shared) part(src *source) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(src.index.names) == 1 {
		return false
	}
	for w := range s.of(src) {
		s.start([]*watched{w})
	}
	return true
}

// tell tells each set what is new to it.
func (s *shared) tell(src *source, c backends.Change, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts map[string]*backends.Change
	if err == nil {
		parts = src.index.split(c)
	}
	for w := range s.of(src) {
		n := news{err: err}
		if err == nil {
			part := parts[w.name]
			switch {
			case part != nil:
				n.change = *part
			case w.err == nil:
				continue
			default: // all is well again
				n.change.Revision = c.Revision
			}
			w.apply(n.change)
		}
		w.err = err
		for r := range w.readers {
			select {
			case r.news <- n:
			case <-r.gone:
			}
		}
	}
}

func (w *watched) apply(c backends.Change) {
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
