package template

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"muster/backends"
)

// A set is a choice of keys by their prefixes, sorted, and its name.
type set struct {
	name     string
	prefixes []string
}

func newSet(prefixes []string) set {
	prefixes = slices.Compact(slices.Sorted(slices.Values(prefixes)))
	return set{strings.Join(prefixes, "\x00"), prefixes}
}

// set are the keys that r takes.
func (r *Resource) set(override string) set { return newSet(r.prefixes(override)) }

// An index says which sets a key is in, by [backends.Under]: it looks the key and
// each folder above it up, and so doesn't depend on how many sets there are.
type index struct {
	names    []string            // of all sets
	byPrefix map[string][]string // the names of those that have it
}

func newIndex() index { return index{byPrefix: make(map[string][]string)} }

func (x *index) add(s set) {
	x.names = append(x.names, s.name)
	for _, p := range s.prefixes {
		p = strings.TrimRight(p, "/")
		x.byPrefix[p] = append(x.byPrefix[p], s.name)
	}
}

// prefixes are those of all sets.
func (x *index) prefixes() []string { return slices.Sorted(maps.Keys(x.byPrefix)) }

// of appends the names of the sets that key is in to names.
func (x *index) of(names []string, key string) []string {
	names = x.at(names, key)
	for i := len(key) - 1; i >= 0; i-- {
		if key[i] == '/' {
			names = x.at(names, key[:i])
		}
	}
	if !strings.HasPrefix(key, "/") {
		names = x.at(names, "")
	}
	return names
}

func (x *index) at(names []string, prefix string) []string {
	for _, name := range x.byPrefix[prefix] {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// split shares c out: what there is in it for each set. Full is for all of them.
// One set alone gets everything: the store may know more of what belongs to a
// prefix than [backends.Under].
func (x *index) split(c backends.Change) map[string]*backends.Change {
	parts := make(map[string]*backends.Change)
	if len(x.names) == 1 {
		if c.Full || len(c.Put)+len(c.Deleted) > 0 {
			parts[x.names[0]] = &c
		}
		return parts
	}
	part := func(name string) *backends.Change {
		p := parts[name]
		if p == nil {
			p = &backends.Change{Revision: c.Revision, Full: c.Full}
			parts[name] = p
		}
		return p
	}
	if c.Full {
		for _, name := range x.names {
			part(name)
		}
	}
	var names []string
	for _, kv := range c.Put {
		names = x.of(names[:0], kv.Key)
		for _, name := range names {
			p := part(name)
			p.Put = append(p.Put, kv)
		}
	}
	for _, key := range c.Deleted {
		names = x.of(names[:0], key)
		for _, name := range names {
			p := part(name)
			p.Deleted = append(p.Deleted, key)
		}
	}
	return parts
}

// A found is what a store has for one set, or why that can't be known.
type found struct {
	change backends.Change
	err    error
}

// read asks the store for sets: once for all of them where it can.
func (e *Engine) read(ctx context.Context, sets []set) map[string]found {
	all := make(map[string]found, len(sets))
	if s, ok := e.Store.(backends.Together); ok {
		x := newIndex()
		for _, s := range sets {
			x.add(s)
		}
		var c backends.Change
		var err error
		if len(x.byPrefix) > 0 { // of nothing there is nothing to ask
			c, err = s.Read(ctx, x.prefixes())
		}
		if !errors.Is(err, backends.ErrDenied) {
			parts := x.split(c)
			for _, s := range sets {
				f := found{err: err}
				if part := parts[s.name]; part != nil {
					f.change = *part
				}
				all[s.name] = f
			}
			return all
		}
	}
	for _, s := range sets {
		if _, known := all[s.name]; !known {
			all[s.name] = e.first(ctx, s)
		}
	}
	return all
}

// first is the first that a watch of s says.
func (e *Engine) first(ctx context.Context, s set) found {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for c, err := range e.Store.Watch(ctx, s.prefixes) {
		if err != nil || c.Full {
			return found{c, err}
		}
	}
	if err := ctx.Err(); err != nil {
		return found{err: err}
	}
	return found{err: errors.New("the store ended without an answer")}
}

// A reading is what was read for some resources at once, and how their templates
// see it. Resources with the same keys by the same names share a
// tree.
type reading struct {
	prefix string
	found  map[string]found // by the set's name
	trees  map[string]*tree
}

func (e *Engine) reading(ctx context.Context, resources []*Resource) *reading {
	sets := make([]set, len(resources))
	for i, r := range resources {
		sets[i] = r.set(e.Prefix)
	}
	return &reading{e.Prefix, e.read(ctx, sets), make(map[string]*tree)}
}

// names are the keys of r.
func (p *reading) names(r *Resource) (*tree, error) {
	name := r.set(p.prefix).name
	found := p.found[name]
	if found.err != nil {
		return nil, found.err
	}
	name += "\x00\x00" + r.prefix(p.prefix)
	if p.trees[name] == nil {
		v := newView(r, p.prefix)
		v.apply(found.change)
		p.trees[name] = v.tree()
	}
	return p.trees[name], nil
}
