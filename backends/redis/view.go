package redis

import (
	"maps"
	"slices"
	"strings"

	"muster/backends"
)

// A view is what a watch knows of Redis, and what it has told of it. They differ
// where two keys give the same name, as the string /a/b and the field b of the
// hash /a do: then the key with the longer name wins.
type view struct {
	known map[string][]backends.KV // by what Redis calls a key, what it gives
	told  map[string]told          // by name
	mixed bool                     // some name is given by two keys
}

type told struct{ value, by string }

func newView() *view {
	return &view{known: make(map[string][]backends.KV), told: make(map[string]told)}
}

// full is everything that was told.
func (v *view) full() backends.Change {
	c := backends.Change{Full: true, Put: make([]backends.KV, 0, len(v.told))}
	for _, name := range slices.Sorted(maps.Keys(v.told)) {
		c.Put = append(c.Put, backends.KV{Key: name, Value: v.told[name].value})
	}
	return c
}

// replace makes all what is known, and returns the difference.
func (v *view) replace(all map[string][]backends.KV) backends.Change {
	for raw := range v.known {
		if _, ok := all[raw]; !ok {
			all[raw] = nil
		}
	}
	return v.update(all)
}

// update takes what some keys give now, and returns the difference.
func (v *view) update(read map[string][]backends.KV) (c backends.Change) {
	v.mixed = v.mixed || v.mixes(read)
	var gone []string
	for raw, kvs := range read {
		for _, kv := range v.known[raw] {
			if !has(kvs, kv.Key) {
				gone = append(gone, kv.Key)
			}
		}
		if len(kvs) == 0 {
			delete(v.known, raw)
			continue
		}
		v.known[raw] = kvs
		for _, kv := range kvs {
			if t, ok := v.told[kv.Key]; !v.mixed && (!ok || t.value != kv.Value) {
				v.told[kv.Key] = told{kv.Value, raw}
				c.Put = append(c.Put, kv)
			}
		}
	}
	if v.mixed {
		c = v.settle()
	} else {
		for _, name := range gone {
			delete(v.told, name)
		}
		c.Deleted = gone
	}
	slices.SortFunc(c.Put, func(a, b backends.KV) int { return strings.Compare(a.Key, b.Key) })
	slices.Sort(c.Deleted)
	return c
}

// mixes reports whether one of the names in read is given by another key too.
func (v *view) mixes(read map[string][]backends.KV) bool {
	by := make(map[string]string, len(read))
	for raw, kvs := range read {
		for _, kv := range kvs {
			other, twice := by[kv.Key]
			t, ok := v.told[kv.Key]
			if twice && other != raw || ok && t.by != raw {
				return true
			}
			by[kv.Key] = raw
		}
	}
	return false
}

func has(kvs []backends.KV, name string) bool {
	_, ok := slices.BinarySearchFunc(kvs, name, func(kv backends.KV, name string) int { return strings.Compare(kv.Key, name) })
	return ok
}

// settle decides anew who gives each name, and returns the difference.
func (v *view) settle() (c backends.Change) {
	v.mixed = false
	now := make(map[string]told, len(v.told))
	for raw, kvs := range v.known {
		for _, kv := range kvs {
			other, twice := now[kv.Key]
			v.mixed = v.mixed || twice
			if !twice || longer(raw, other.by) {
				now[kv.Key] = told{kv.Value, raw}
			}
		}
	}
	for name, t := range now {
		if old, ok := v.told[name]; !ok || old.value != t.value {
			c.Put = append(c.Put, backends.KV{Key: name, Value: t.value})
		}
	}
	for name := range v.told {
		if _, ok := now[name]; !ok {
			c.Deleted = append(c.Deleted, name)
		}
	}
	v.told = now
	return c
}

func longer(a, b string) bool { return len(a) > len(b) || len(a) == len(b) && a > b }
