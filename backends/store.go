// Package backends is how muster reads a key-value store: what a key is, what
// a change is, and how to follow the keys under some prefixes for ever.
//
// There are only a few types. A [Store] is watched and yields one full
// [Change], then every later one. A [Feed] runs a watch on a goroutine of its
// own and merges what nobody has taken yet, so a slow reader skips ahead. [Poll]
// makes a watch out of a store that can only be read. A store's own package
// (backends/etcd, backends/file, …) knows keys and nothing of services:
//
//	etcd, file, env ──Watch──> Change ──Feed──> catalog.Apply, template.Resource
//
// This package imports the standard library only.
package backends

import (
	"context"
	"iter"
)

// A KV is one key as the store has it. Created and Modified are the store's
// revisions and Lease the lease the key hangs on; each is zero where a store
// has no such thing.
type KV struct {
	Key, Value               string
	Created, Modified, Lease int64
}

// A Change is what happened to the watched keys since the Change before it. A
// key is in Put or in Deleted, never in both, and at most once. Full means that
// Put is everything there is. A Change with neither says only that the store
// answered and stands at Revision; while the store answers, one comes at least
// every second.
//
// Final are keys that were put since the Change before and are deleted again, as
// they were put last: the last words of who left in a hurry. A store that can't
// tell leaves it empty.
type Change struct {
	Revision int64
	Full     bool
	Put      []KV
	Deleted  []string
	Final    []KV
}

// A Store is a key-value store that muster reads and watches.
type Store interface {
	// Watch yields the keys under prefixes: one Full Change first, then every
	// later one, with no gap. Under P means P itself and what lies below P/
	// (see [Under]); "" and "/" mean everything. Within one prefix a Change is
	// atomic: it holds whole revisions.
	//
	// An error is news, not the end: the store goes on trying and says Full
	// again when it is not sure of its place (it sends the whole; catalog.Apply
	// and Feed compare). An error before the first Full means that every
	// address was tried once. Watch ends when ctx ends or the loop leaves.
	Watch(ctx context.Context, prefixes []string) iter.Seq2[Change, error]

	// Close frees what the store holds. No Watch may be running.
	Close() error
}
