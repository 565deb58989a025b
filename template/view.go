package template

import (
	"maps"
	"path"
	"slices"
	"strings"

	"muster/backends"
)

// A view is the keys of one resource, as the store has them and by the names
// that its template knows. It is fed with Changes: one key among thousands
// costs one key.
type view struct {
	resource *Resource
	prefix   string // that replaces the resource's own

	keys    map[string]string // as the store has them
	names   *tree             // nil: to be made anew from keys
	shadows int               // how many keys may have the name of another
}

func newView(r *Resource, prefix string) *view {
	return &view{resource: r, prefix: prefix, keys: make(map[string]string), names: newTree()}
}

// apply brings the view up to c and reports whether that changed anything.
func (v *view) apply(c backends.Change) (changed bool) {
	switch {
	case c.Full && len(v.keys) == 0:
		v.keys = make(map[string]string, len(c.Put))
	case c.Full:
		put := make(map[string]bool, len(c.Put))
		for _, kv := range c.Put {
			put[kv.Key] = true
		}
		for key := range v.keys {
			if !put[key] {
				v.del(key)
				changed = true
			}
		}
	}
	for _, kv := range c.Put {
		if old, ok := v.keys[kv.Key]; !ok || old != kv.Value {
			v.set(kv.Key, kv.Value)
			changed = true
		}
	}
	for _, key := range c.Deleted {
		if _, ok := v.keys[key]; ok {
			v.del(key)
			changed = true
		}
	}
	return changed
}

func (v *view) set(key, value string) {
	_, known := v.keys[key]
	v.keys[key] = value
	name, kind := v.name(key)
	if kind == shadowing && !known {
		v.shadows++
	}
	switch {
	case kind == nameless:
	case v.shadows > 0:
		v.names = nil
	case v.names != nil:
		v.names.set(name, value)
	}
}

func (v *view) del(key string) {
	delete(v.keys, key)
	name, kind := v.name(key)
	switch {
	case kind == nameless:
	case v.shadows > 0:
		v.names = nil
	case v.names != nil:
		v.names.del(name)
	}
	if kind == shadowing {
		v.shadows--
	}
}

// The kinds of keys.
const (
	plain     = iota
	nameless  // in etcd "x" is not "/x"
	shadowing // its name may be that of another key too: /a//b is /a/b, and so is /a/b
)

// name is what the template calls key.
func (v *view) name(key string) (name string, kind int) {
	switch {
	case !strings.HasPrefix(key, "/"):
		return "", nameless
	case path.Clean(key) != key, !cuts(v.resource.prefix(v.prefix), key):
		kind = shadowing
	}
	return v.resource.name(v.prefix, key), kind
}

// tree returns the keys by name. Of two keys with one name the later in the
// order of keys counts.
func (v *view) tree() *tree {
	if v.names == nil {
		v.names = newTree()
		for _, key := range slices.Sorted(maps.Keys(v.keys)) {
			if name, kind := v.name(key); kind != nameless {
				v.names.set(name, v.keys[key])
			}
		}
	}
	return v.names
}
