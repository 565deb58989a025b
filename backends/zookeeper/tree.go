package zookeeper

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-zookeeper/zk"

	"muster/backends"
)

// armed are the watches of a node: ZooKeeper tells once of a change, until they
// are set again by reading.
type armed int

const (
	data armed = 1 << iota
	children
)

// readers is how many nodes are read at a time.
const readers = 16

// A node is one of ZooKeeper's as it was read last.
type node struct {
	value    string
	stat     zk.Stat         // of the data
	children map[string]bool // by name, not path
}

// A tree is what is known of ZooKeeper below some roots.
type tree struct {
	roots   []string
	whole   bool // a node that may not be read is an error, not left out
	nodes   map[string]*node
	denied  map[string]bool // may not be read
	changed map[string]bool // nodes that may be other keys than they were
	newest  int64           // zxid seen
}

func newTree(roots []string, whole bool) *tree {
	return &tree{roots: roots, whole: whole, nodes: make(map[string]*node), denied: make(map[string]bool), changed: make(map[string]bool)}
}

// everything is what to read of a tree that nothing is known of.
func (t *tree) everything() map[string]armed {
	todo := make(map[string]armed)
	for _, root := range t.roots {
		todo[root] = data | children
	}
	return todo
}

func (t *tree) isRoot(path string) bool { return slices.Contains(t.roots, path) }

// knows reports whether path is a node of the tree, or may be one.
func (t *tree) knows(path string) bool { return t.isRoot(path) || t.hasParent(path) }

// A reading is what one node said.
type reading struct {
	path     string
	what     armed
	value    []byte
	stat     *zk.Stat // of the data, nil where it was not read
	children []string
	pzxid    int64
	err      error
}

// read reads what is to be read of some nodes, several at a time, and sets their
// watches.
func (t *tree) read(l *link, todo map[string]armed) []reading {
	readings := make([]reading, 0, len(todo))
	for path, what := range todo {
		readings = append(readings, reading{path: path, what: what})
	}
	var wg sync.WaitGroup
	next := make(chan *reading)
	for range min(readers, len(readings)) {
		wg.Go(func() {
			for r := range next {
				r.err = l.do(func() error { return r.read(l.conn, t.isRoot(r.path)) })
			}
		})
	}
	for i := range readings {
		next <- &readings[i]
	}
	close(next)
	wg.Wait()
	return readings
}

func (r *reading) read(conn *zk.Conn, root bool) (err error) {
	for {
		if err = r.once(conn); !root || !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		// No parent tells that a root is made.
		made, _, _, exists := conn.ExistsW(r.path)
		switch {
		case exists != nil:
			return exists
		case !made:
			return err
		}
		r.what = data | children
	}
}

func (r *reading) once(conn *zk.Conn) (err error) {
	if r.what&children != 0 {
		var stat *zk.Stat
		if r.children, stat, _, err = conn.ChildrenW(r.path); err != nil {
			return err
		}
		r.pzxid = stat.Pzxid
	}
	if r.what&data != 0 {
		r.value, r.stat, _, err = conn.GetW(r.path)
	}
	return err
}

// apply takes readings into the tree, and returns what is to be read now. Its
// error is that of the link, or of a node that may not be read.
func (t *tree) apply(readings []reading) (todo map[string]armed, err error) {
	todo = make(map[string]armed)
	// First what is gone: a parent that was read later knows whether it came back.
	for _, r := range readings {
		switch {
		case r.err == nil:
		case errors.Is(r.err, zk.ErrNoNode):
			t.drop(r.path)
			t.orphan(r.path)
		case errors.Is(r.err, zk.ErrNoAuth) && (t.whole || t.isRoot(r.path)):
			return nil, &deniedError{r.path, r.err}
		case errors.Is(r.err, zk.ErrNoAuth):
			t.drop(r.path)
			t.denied[r.path] = true
		default:
			return nil, r.err
		}
	}
	for _, r := range readings {
		if r.err == nil && t.knows(r.path) {
			t.take(r, todo)
		}
	}
	return todo, nil
}

// orphan takes path out of its parent's children.
func (t *tree) orphan(path string) {
	parent, name := split(path)
	if p := t.nodes[parent]; p != nil && p.children[name] {
		delete(p.children, name)
		t.changed[parent] = true
	}
}

// hasParent reports whether path is a child that is known of: its parent may have
// been dropped while it was read.
func (t *tree) hasParent(path string) bool {
	parent, name := split(path)
	p := t.nodes[parent]
	return p != nil && p.children[name]
}

func (t *tree) take(r reading, todo map[string]armed) {
	n := t.nodes[r.path]
	if n == nil {
		n = &node{}
		t.nodes[r.path] = n
	}
	delete(t.denied, r.path)
	t.changed[r.path] = true
	if r.stat != nil {
		n.value, n.stat = string(r.value), *r.stat
		t.newest = max(t.newest, r.stat.Mzxid, r.stat.Czxid, r.stat.Pzxid)
	}
	if r.what&children == 0 {
		return
	}
	t.newest = max(t.newest, r.pzxid)
	before := n.children
	n.children = make(map[string]bool, len(r.children))
	for _, name := range r.children {
		path := join(r.path, name)
		if path == "/zookeeper" {
			continue
		}
		n.children[name] = true
		if !before[name] {
			todo[path] = data | children
		}
	}
	for name := range before {
		if !n.children[name] {
			t.drop(join(r.path, name))
		}
	}
}

// drop forgets a node and all below it.
func (t *tree) drop(path string) {
	delete(t.denied, path)
	n := t.nodes[path]
	if n == nil {
		return
	}
	delete(t.nodes, path)
	t.changed[path] = true
	for name := range n.children {
		t.drop(join(path, name))
	}
}

func join(parent, name string) string {
	if parent == "/" {
		return "/" + name
	}
	return parent + "/" + name
}

func split(path string) (parent, name string) {
	at := strings.LastIndexByte(path, '/')
	if at == 0 {
		return "/", path[1:]
	}
	return path[:at], path[at+1:]
}

// A deniedError is a node that may not be read.
type deniedError struct {
	path string
	err  error
}

func (e *deniedError) Error() string {
	return fmt.Sprintf("node %q may not be read: %v", e.path, e.err)
}
func (e *deniedError) Unwrap() []error { return []error{e.err, backends.ErrDenied} }
