package zookeeper

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"muster/backends"
	"muster/internal/failover"
)

const (
	// lookEvery is how often ZooKeeper is asked for a sign of life.
	lookEvery = 500 * time.Millisecond

	// settleFor is how long nodes that change while they are read may hold up
	// what was read already.
	settleFor = time.Second

	// retryDenied is how often nodes are tried again that may not be read: no
	// watch tells of rights.
	retryDenied = time.Minute
)

// A watch is one running Watch.
type watch struct {
	store    *Store
	roots    []string
	whole    bool // see tree
	yield    func(backends.Change, error) bool
	revision int64 // never goes back

	// Of the session that is there.
	link  *link
	tree  *tree
	todo  map[string]armed // what to read next
	told  map[string]backends.KV
	shown map[string]bool // denied nodes that the log told of
	again time.Time       // when they are tried again
}

// session is what happens on one connection. It has begun with a Full Change.
func (w *watch) session(ctx context.Context, at int) (began bool, err error) {
	w.link, err = connect(ctx, w.store.addrs[at], w.store.digest, w.store.secure, w.store.log)
	if err != nil {
		return false, err
	}
	defer w.link.close()
	w.tree, w.told, w.shown = newTree(w.roots, w.whole), make(map[string]backends.KV), make(map[string]bool)
	w.todo, w.again = w.tree.everything(), time.Now().Add(retryDenied)
	if err := w.settle(ctx); err != nil {
		return false, w.named(err)
	}
	full := w.difference()
	full.Full = true
	if !w.yield(full, nil) {
		return true, failover.ErrLeft
	}
	return true, w.named(w.follow(ctx))
}

// named is err with the address it came from.
func (w *watch) named(err error) error {
	if denied, ok := errors.AsType[*deniedError](err); ok {
		return &Error{w.link.addr, denied}
	}
	return err
}

func (w *watch) follow(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		looking := false
		select {
		case <-w.link.news:
		case <-look.C:
			looking = true
		case <-w.link.down:
			return &Error{w.link.addr, w.link.err}
		case <-ctx.Done():
			return ctx.Err()
		}
		if looking {
			if err := w.look(); err != nil {
				return err
			}
		}
		if err := w.settle(ctx); err != nil {
			return err
		}
		if c := w.difference(); looking || len(c.Put)+len(c.Deleted) > 0 {
			if !w.yield(c, nil) {
				return failover.ErrLeft
			}
		}
	}
}

// look asks for a sign of life, and now and then for what may not be read.
func (w *watch) look() error {
	if time.Now().After(w.again) {
		w.again = time.Now().Add(retryDenied)
		for path := range w.tree.denied {
			w.todo[path] = data | children
		}
	}
	return w.link.do(func() error {
		_, _, err := w.link.conn.Exists("/")
		return err
	})
}

// settle reads until nothing is left to read: then the tree is as it was when the
// last answer was given, because ZooKeeper would have told of a change before.
func (w *watch) settle(ctx context.Context) error {
	start := time.Now()
	for ctx.Err() == nil {
		fired := w.link.take()
		maps.DeleteFunc(fired, func(path string, _ armed) bool { return !w.tree.knows(path) })
		late := len(w.todo) == 0 && time.Since(start) > settleFor
		for path, what := range fired {
			w.todo[path] |= what
		}
		if len(w.todo) == 0 || late {
			break
		}
		todo, err := w.tree.apply(w.tree.read(w.link, w.todo))
		if err != nil {
			return err
		}
		w.todo = todo
	}
	for path := range w.tree.denied {
		if !w.shown[path] {
			w.shown[path] = true
			w.store.log.Warn("a node may not be read and is left out", "store", "zookeeper "+w.link.addr, "node", path)
		}
	}
	return ctx.Err()
}

// difference is what differs in the tree from what was told.
func (w *watch) difference() (c backends.Change) {
	for _, path := range slices.Sorted(maps.Keys(w.tree.changed)) {
		kv, ok := w.kv(path)
		old, had := w.told[path]
		switch {
		case ok && (!had || kv != old):
			w.told[path] = kv
			c.Put = append(c.Put, kv)
		case !ok && had:
			delete(w.told, path)
			c.Deleted = append(c.Deleted, old.Key)
		}
	}
	clear(w.tree.changed)
	w.revision = max(w.revision, w.tree.newest)
	c.Revision = w.revision
	return c
}

// kv is the key that a node is, if it is one.
func (w *watch) kv(path string) (kv backends.KV, ok bool) {
	n := w.tree.nodes[path]
	key := strings.TrimPrefix(path, w.store.chroot)
	if n == nil || len(n.children) > 0 && n.value == "" || key == "" || key == "/" {
		return kv, false
	}
	return backends.KV{
		Key: key, Value: n.value,
		Created: n.stat.Czxid, Modified: n.stat.Mzxid, Lease: n.stat.EphemeralOwner,
	}, true
}
