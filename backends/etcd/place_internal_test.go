package etcd

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/backends"
)

// One Change of many events has the newest of each key, and what was put before
// a delete.
func TestBatchIsTheNewestOfEachKey(t *testing.T) {
	var b batch
	put := func(key, value string, revision int64) event {
		return event{KV: backends.KV{Key: key, Value: value, Modified: revision}}
	}
	del := func(key string, revision int64) event {
		return event{KV: backends.KV{Key: key, Modified: revision}, deleted: true}
	}
	for _, e := range []event{
		put("b", "1", 1), del("c", 2), put("a", "3", 3), del("b", 4), put("b", "5", 5), put("d", "6", 6), put("d", "7", 7), del("d", 8), put("e", "9", 9), del("e", 10), del("e", 11),
	} {
		b.add(e)
	}
	want := backends.Change{
		Put:     []backends.KV{put("a", "3", 3).KV, put("b", "5", 5).KV},
		Deleted: []string{"c", "d", "e"},
		Final:   []backends.KV{put("d", "7", 7).KV},
	}
	if d := cmp.Diff(want, b.change()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if b.newest != 11 {
		t.Errorf("newest revision %d, want 11", b.newest)
	}
}
