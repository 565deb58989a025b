package template

import (
	"iter"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/kelseyhightower/memkv"
)

// A tree is what a template sees of the store: names that begin with a slash
// and are clean. The key functions are memkv's, whose store looks at every key
// it has for each call; so there is one for each folder, and a template over
// all services costs what it prints and not its square.
type tree struct {
	branches map[string]*branch // by path; the top is "/" and always there
	names    int
}

type branch struct {
	path     string
	leaves   *memkv.Store // the names right in this folder
	count    int          // of them
	children map[string]*branch
}

func newTree() *tree { return &tree{branches: map[string]*branch{"/": newBranch("/")}} }

func newBranch(path string) *branch {
	s := memkv.New()
	s.FuncMap = nil // made for each store, and of no use here
	return &branch{path: path, leaves: &s, children: make(map[string]*branch)}
}

// parent is the folder that name lies in, by its text alone: "/a//b" lies in
// "/a/", which is never there.
func parent(name string) string {
	switch i := strings.LastIndexByte(name, '/'); i {
	case -1:
		return ""
	case 0:
		return "/"
	default:
		return name[:i]
	}
}

func (t *tree) set(name, value string) {
	b := t.branch(parent(name))
	if !b.leaves.Exists(name) {
		b.count++
		t.names++
	}
	b.leaves.Set(name, value)
}

// branch returns the one at path, which it makes where there is none.
func (t *tree) branch(path string) *branch {
	if b := t.branches[path]; b != nil {
		return b
	}
	b := newBranch(path)
	t.branches[path] = b
	t.branch(parent(path)).children[path[strings.LastIndexByte(path, '/')+1:]] = b
	return b
}

func (t *tree) del(name string) {
	b := t.branches[parent(name)]
	if b == nil || !b.leaves.Exists(name) {
		return
	}
	b.leaves.Del(name)
	b.count--
	t.names--
	for b.path != "/" && b.count == 0 && len(b.children) == 0 {
		delete(t.branches, b.path)
		up := t.branches[parent(b.path)]
		delete(up.children, b.path[strings.LastIndexByte(b.path, '/')+1:])
		b = up
	}
}

// in is the store that has name if any has.
func (t *tree) in(name string) *memkv.Store {
	if b := t.branches[parent(name)]; b != nil {
		return b.leaves
	}
	return t.branches["/"].leaves
}

func (t *tree) exists(name string) bool { return t.in(name).Exists(name) }

func (t *tree) get(name string) (memkv.KVPair, error) { return t.in(name).Get(name) }

func (t *tree) getv(name string, fallback ...string) (string, error) {
	return t.in(name).GetValue(name, fallback...)
}

// gets returns the pairs whose whole names match pattern, by name.
func (t *tree) gets(pattern string) (memkv.KVPairs, error) {
	pairs := make(memkv.KVPairs, 0)
	if t.names == 0 {
		return pairs, nil // a bad pattern is no error where nothing is compared with it
	}
	if _, err := path.Match(pattern, "/"); err != nil {
		return nil, err
	}
	if !strings.ContainsAny(pattern, `*?[\`) {
		if kv, err := t.get(pattern); err == nil {
			pairs = append(pairs, kv)
		}
		return pairs, nil
	}
	for b := range t.holding(pattern) {
		some, err := b.leaves.GetAll(pattern)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, some...)
	}
	sort.Sort(pairs)
	return pairs, nil
}

// holding yields the folders with names that may match pattern.
func (t *tree) holding(pattern string) iter.Seq[*branch] {
	return func(yield func(*branch) bool) {
		first, rest, slash := strings.Cut(pattern, "/")
		nothing, _ := path.Match(first, "") // what stands before the first slash
		switch top := t.branches["/"]; {
		case strings.ContainsAny(first, `[\`): // both may stand for it
			top.walk(yield)
		case slash && nothing:
			top.match(rest, yield)
		}
	}
}

// match yields the folders in b and below it that may hold what matches
// pattern, whose first element is about what lies right in b.
func (b *branch) match(pattern string, yield func(*branch) bool) bool {
	element, rest, more := strings.Cut(pattern, "/")
	switch {
	case strings.ContainsAny(element, `[\`):
		return b.walk(yield)
	case !more:
		return yield(b)
	case !strings.ContainsAny(element, "*?"):
		child := b.children[element]
		return child == nil || child.match(rest, yield)
	}
	for name, child := range b.children {
		if ok, _ := path.Match(element, name); ok && !child.match(rest, yield) {
			return false
		}
	}
	return true
}

// walk yields b and all folders below it.
func (b *branch) walk(yield func(*branch) bool) bool {
	if !yield(b) {
		return false
	}
	for _, child := range b.children {
		if !child.walk(yield) {
			return false
		}
	}
	return true
}

func (t *tree) getvs(pattern string) ([]string, error) {
	values := make([]string, 0)
	pairs, err := t.gets(pattern)
	for _, kv := range pairs {
		values = append(values, kv.Value)
	}
	slices.Sort(values)
	return values, err
}

// ls lists what lies one level below p, and p itself where it is a name. Of "/"
// memkv finds only the leaves; here it is the whole top level.
func (t *tree) ls(p string) []string {
	b := t.branches[path.Clean(p)]
	list := make(map[string]bool)
	switch {
	case b == nil:
	case p == b.path || b.path != "/" && p == b.path+"/":
		for name := range b.children {
			list[name] = true
		}
		for _, kv := range b.pairs() {
			if kv.Key != "/" {
				list[path.Base(kv.Key)] = true
			}
		}
	default: // memkv has its own idea of such paths
		for _, name := range b.flat().List(p) {
			list[name] = true
		}
	}
	if p != "/" && t.exists(p) {
		list[path.Base(p)] = true
	}
	return sorted(list)
}

// lsdir lists the folders one level below p.
func (t *tree) lsdir(p string) []string {
	b := t.branches[path.Clean(p)]
	switch {
	case b == nil:
		return []string{}
	case p == b.path || b.path != "/" && p == b.path+"/":
		return sorted(b.children)
	}
	return b.flat().ListDir(p)
}

func sorted[V any](m map[string]V) []string {
	names := slices.AppendSeq(make([]string, 0, len(m)), maps.Keys(m))
	slices.Sort(names)
	return names
}

// pairs are all of the leaves.
func (b *branch) pairs() memkv.KVPairs {
	pairs, _ := b.leaves.GetAll(path.Join(quoteMeta(b.path), "*")) // a good pattern
	return pairs
}

// flat is everything in b and below it as one memkv.
func (b *branch) flat() *memkv.Store {
	s := memkv.New()
	b.walk(func(b *branch) bool {
		for _, kv := range b.pairs() {
			s.Set(kv.Key, kv.Value)
		}
		return true
	})
	return &s
}

var metas = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`)

func quoteMeta(s string) string { return metas.Replace(s) }
