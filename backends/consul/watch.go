package consul

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/backends"
	"muster/internal/failover"
)

// lookEvery is how often an agent is asked for a sign of life.
const lookEvery = 500 * time.Millisecond

// A watch is one running Watch.
type watch struct {
	store    *Store
	queries  []query
	whole    bool // see lister
	yield    func(backends.Change, error) bool
	revision int64           // never goes back
	shown    map[string]bool // prefixes that the log told of
}

// session is what happens with one agent. It has begun with a Full Change.
func (w *watch) session(ctx context.Context, at int) (began bool, err error) {
	n := w.store.nodes[at]
	opts, err := n.options(ctx)
	if err == nil {
		err = n.ask(ctx)
	}
	if err != nil {
		return false, n.fails(err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer fail(nil) // before wg.Wait
	alive := make(chan struct{})
	wg.Go(func() { fail(n.look(ctx, alive)) })
	lists := make(chan listing)
	for i, q := range w.queries {
		l := &lister{node: n, store: w.store, query: q, opts: opts, whole: w.whole}
		wg.Go(func() {
			fail(l.follow(ctx, func(found listing) bool {
				found.query = i
				select {
				case lists <- found:
				case <-ctx.Done():
				}
				return ctx.Err() == nil
			}))
		})
	}
	return w.follow(ctx, alive, lists)
}

// look asks the agent for a sign of life until it gives none, and tells alive of
// each.
func (n *node) look(ctx context.Context, alive chan<- struct{}) error {
	for tick := time.NewTicker(lookEvery); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		}
		if err := n.ask(ctx); err != nil {
			tick.Stop()
			return n.fails(err)
		}
		select {
		case alive <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// follow yields what differs from list to list, until ctx ends.
func (w *watch) follow(ctx context.Context, alive <-chan struct{}, lists <-chan listing) (began bool, err error) {
	known := make([]map[string]backends.KV, len(w.queries))
	for {
		var c backends.Change
		if !began && !slices.ContainsFunc(known, func(m map[string]backends.KV) bool { return m == nil }) {
			began = true
			c.Full = true
			for _, kvs := range known {
				for _, kv := range kvs {
					c.Put = append(c.Put, kv)
				}
			}
			slices.SortFunc(c.Put, func(a, b backends.KV) int { return strings.Compare(a.Key, b.Key) })
		} else {
			select {
			case <-ctx.Done():
				return began, context.Cause(ctx)
			case <-alive:
			case found := <-lists:
				c = w.take(&known[found.query], found)
				if len(c.Put)+len(c.Deleted) == 0 {
					continue
				}
			}
			if !began {
				continue
			}
		}
		c.Revision = w.revision
		if !w.yield(c, nil) {
			return true, failover.ErrLeft
		}
	}
}

// take makes found what is known and returns the difference.
func (w *watch) take(known *map[string]backends.KV, found listing) backends.Change {
	if *known == nil {
		*known = make(map[string]backends.KV)
	}
	c := backends.Diff(*known, found.kvs)
	backends.Apply(*known, c)
	w.revision = max(w.revision, int64(found.index))
	if found.nothing {
		w.warn("there are no keys for who has no token: set CONSUL_HTTP_TOKEN", w.queries[found.query].prefixes)
	}
	w.warn("keys may not be read with this token and are left out", found.leftOut)
	return c
}

// warn logs about each prefix once.
func (w *watch) warn(text string, prefixes []string) {
	for _, p := range prefixes {
		if !w.shown[p] {
			w.shown[p] = true
			w.store.log.Warn(text, "store", "consul", "prefix", p)
		}
	}
}
