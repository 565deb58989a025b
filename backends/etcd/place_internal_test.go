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

// Events that have to wait, as those of several ranges do, cost what their keys
// cost, however many they are.
func TestBatchIsAsLargeAsItsKeys(t *testing.T) {
	const keys, rounds = 100, 1000
	var all, merged batch
	for round := range int64(rounds) {
		var one batch
		for i := range int64(keys) {
			e := event{KV: backends.KV{Key: string(rune('a' + i)), Modified: round*keys + i}, deleted: round%2 == 1}
			all.add(e)
			one.add(e)
		}
		if merged.merge(&one); len(merged.events) > 4*keys+reduceAt {
			t.Fatalf("%d merged events of %d keys", len(merged.events), keys)
		}
		if len(all.events) > 4*keys+reduceAt {
			t.Fatalf("%d events of %d keys", len(all.events), keys)
		}
	}
	for _, b := range []*batch{&all, &merged} {
		if c := b.change(); len(c.Put) != 0 || len(c.Deleted) != keys || len(c.Final) != keys {
			t.Errorf("%d puts, %d deletes and %d puts before deletes, want 0, %d and %d", len(c.Put), len(c.Deleted), len(c.Final), keys, keys)
		}
	}
}
