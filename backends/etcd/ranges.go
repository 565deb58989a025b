package etcd

import (
	"slices"
	"strings"

	"muster/backends"
)

// A span is one range of keys in etcd, [from, to); an empty to means the key
// from alone.
type span struct {
	from, to string
	// only are the prefixes whose keys are wanted of it; nil means all.
	only []string
	// group is which prefix it belongs to, or prefixes that are one: a Change
	// must not tear what one transaction wrote to spans of one group.
	group int
}

func (s span) wants(key string) bool {
	return s.only == nil || backends.UnderAny(nil, s.only, key)
}

// spans covers prefixes with ranges that don't overlap in what they want,
// sorted by their first key.
//
// P alone is the key P and ["P/", "P0"), as '0' comes after '/'. That leaves
// out the siblings of P, which may be many. P and P.meta together are one range,
// so that a value and its metadata come in one response: ["P", "P0"), where '.'
// comes before '/'. It holds such siblings too, which only drops.
//
// narrow is for a user who may read what lies below P only: the keys P are left
// out, and P and P.meta are two ranges of one group.
func spans(prefixes []string, narrow bool) []span {
	prefixes = normal(prefixes)
	if slices.Contains(prefixes, "") {
		return []span{{from: "\x00", to: "\x00"}}
	}
	var list []span
	folded := make(map[string]bool)
	group := 0
	for _, p := range prefixes {
		if folded[p] {
			continue
		}
		family := []string{p}
		for q := p + ".meta"; slices.Contains(prefixes, q); q += ".meta" {
			family = append(family, q)
			folded[q] = true
		}
		switch {
		case narrow:
			for _, q := range family {
				list = append(list, span{from: q + "/", to: q + "0", group: group})
			}
		case len(family) > 1:
			list = append(list, span{from: p, to: p + "0", only: family, group: group})
		default:
			list = append(list, span{from: p, group: group}, span{from: p + "/", to: p + "0", group: group})
		}
		group++
	}
	if len(list) == 0 {
		// Of nothing there is nothing to tell, but that etcd answers.
		list = []span{{from: "\x00", only: []string{}}}
	}
	slices.SortFunc(list, func(a, b span) int { return strings.Compare(a.from, b.from) })
	return list
}

// normal sorts prefixes, without the slash at their end and without those that
// lie below another.
func normal(prefixes []string) []string {
	var list []string
	for _, p := range prefixes {
		list = append(list, strings.TrimRight(p, "/"))
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return slices.DeleteFunc(slices.Clone(list), func(p string) bool {
		return slices.ContainsFunc(list, func(q string) bool { return p != q && backends.Under(q, p) })
	})
}
