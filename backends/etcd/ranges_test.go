package etcd

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"muster/backends"
)

func TestSpans(t *testing.T) {
	key := func(from string, group int) span { return span{from: from, group: group} }
	for _, test := range []struct {
		name     string
		prefixes []string
		narrow   bool
		want     []span
	}{
		{"one", []string{"/a"}, false, []span{key("/a", 0), {from: "/a/", to: "/a0"}}},
		{"one, narrow", []string{"/a/"}, true, []span{{from: "/a/", to: "/a0"}}},
		{"below another", []string{"/a/b", "/a", "/a/"}, false, []span{key("/a", 0), {from: "/a/", to: "/a0"}}},
		{"folded", []string{"/a.meta", "/a"}, false, []span{{from: "/a", to: "/a0", only: []string{"/a", "/a.meta"}}}},
		{"folded, narrow", []string{"/a", "/a.meta"}, true, []span{{from: "/a.meta/", to: "/a.meta0"}, {from: "/a/", to: "/a0"}}},
		{"metadata alone", []string{"/a.meta"}, false, []span{key("/a.meta", 0), {from: "/a.meta/", to: "/a.meta0"}}},
		{"two", []string{"/b", "/a"}, false, []span{
			key("/a", 0), {from: "/a/", to: "/a0"}, key("/b", 1), {from: "/b/", to: "/b0", group: 1},
		}},
		{"everything", []string{"/a", "/"}, false, []span{{from: "\x00", to: "\x00"}}},
		{"nothing", nil, false, []span{{from: "\x00", only: []string{}}}},
	} {
		same := func(a, b span) bool {
			return a.from == b.from && a.to == b.to && a.group == b.group && slices.Equal(a.only, b.only) && (a.only == nil) == (b.only == nil)
		}
		if got := spans(test.prefixes, test.narrow); !slices.EqualFunc(got, test.want, same) {
			t.Errorf("%s: spans(%q): got %+v, want %+v", test.name, test.prefixes, got, test.want)
		}
	}
}

// Every key that lies under a prefix is wanted of exactly one span, and no other
// key of any.
func TestSpansCoverExactly(t *testing.T) {
	name := rapid.StringMatching(`(/(a|b|a\.meta|a-|0)){0,3}/?`)
	rapid.Check(t, func(t *rapid.T) {
		prefixes := rapid.SliceOfN(name, 0, 5).Draw(t, "prefixes")
		key := rapid.Custom(func(t *rapid.T) string {
			return name.Draw(t, "key") + rapid.SampledFrom([]string{"", "/x", ".", ".meta", ".meta/x", "-", "0", "\x00"}).Draw(t, "end")
		}).Filter(func(key string) bool { return key != "" }).Draw(t, "key")
		n := 0
		for _, s := range spans(prefixes, false) {
			in := key == s.from
			if s.to != "" {
				in = key >= s.from && (key < s.to || s.to == "\x00")
			}
			if in && s.wants(key) {
				n++
			}
		}
		want := 0
		if backends.UnderAny(nil, prefixes, key) {
			want = 1
		}
		if n != want {
			t.Fatalf("%q is wanted of %d spans of %q, want %d", key, n, prefixes, want)
		}
	})
}
