package template

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kelseyhightower/memkv"
	"pgregory.net/rapid"

	"muster/backends"
)

// element is part of a name, made so that names share folders and look like
// patterns now and then.
var element = rapid.SampledFrom([]string{"a", "b", "ab", "abc", "a.b", ".", "..", "...", "", "-", "é", "*", "[a]", `\`, "c d", "a*"})

func drawPath(t *rapid.T, label string) string {
	return "/" + strings.Join(rapid.SliceOfN(element, 0, 4).Draw(t, label), "/")
}

// pattern has what path.Match knows, some of it broken.
var patternElement = rapid.SampledFrom([]string{
	"a", "b", "ab", "*", "?", "a*", "*b", "[ab]", "[^a]", "[a-c]*", "[", "[]", "[a", "[.-0]", `\`, `\*`, `\a`, "", ".", "..", "...", "é", "**", "a?",
})

func drawPattern(t *rapid.T) string {
	p := strings.Join(rapid.SliceOfN(patternElement, 0, 5).Draw(t, "pattern"), "/")
	if rapid.IntRange(0, 9).Draw(t, "relative") > 0 {
		p = "/" + p
	}
	return p
}

// One memkv for each folder answers as one memkv of everything does, whatever
// was set and deleted before.
func TestTreeIsOneMemkv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names, flat := newTree(), memkv.New()
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			name := path.Clean(drawPath(t, "name"))
			if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
				names.del(name)
				flat.Del(name)
			} else {
				value := rapid.SampledFrom([]string{"", "1", "2", "10"}).Draw(t, "value")
				names.set(name, value)
				flat.Set(name, value)
			}
		}
		same := func(call string, got, want any, gotErr, wantErr error) {
			t.Helper()
			if !reflect.DeepEqual(got, want) || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
				t.Fatalf("%s: got %v, %v, want %v, %v", call, got, gotErr, want, wantErr)
			}
		}
		for range 20 {
			p := drawPath(t, "path")
			if rapid.Bool().Draw(t, "clean") {
				p = path.Clean(p)
			}
			if rapid.IntRange(0, 9).Draw(t, "relative") == 0 {
				p = strings.TrimPrefix(p, "/")
			}
			same("exists "+p, names.exists(p), flat.Exists(p), nil, nil)
			got, gotErr := names.get(p)
			want, wantErr := flat.Get(p)
			same("get "+p, got, want, gotErr, wantErr)
			gotText, gotErr := names.getv(p, "default")
			wantText, wantErr := flat.GetValue(p, "default")
			same("getv "+p, gotText, wantText, gotErr, wantErr)
			if p != "/" { // there ours lists more
				same("ls "+p, names.ls(p), flat.List(p), nil, nil)
				same("lsdir "+p, names.lsdir(p), flat.ListDir(p), nil, nil)
			}
			pattern := drawPattern(t)
			gotPairs, gotErr := names.gets(pattern)
			wantPairs, wantErr := flat.GetAll(pattern)
			same("gets "+pattern, gotPairs, wantPairs, gotErr, wantErr)
			gotValues, gotErr := names.getvs(pattern)
			wantValues, wantErr := flat.GetAllValues(pattern)
			same("getvs "+pattern, gotValues, wantValues, gotErr, wantErr)
		}
	})
}

// A view fed with Changes has the names that a view of the sum has.
func TestViewIsTheSumOfItsChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Resource{Prefix: rapid.SampledFrom([]string{"", "/a", "/a/b", "/"}).Draw(t, "prefix")}
		fed := newView(r, "")
		keys := make(map[string]string)
		for range rapid.IntRange(1, 10).Draw(t, "changes") {
			c := backends.Change{Full: rapid.IntRange(0, 4).Draw(t, "full") == 0}
			before := maps.Clone(keys)
			if c.Full {
				clear(keys)
			}
			touched := make(map[string]bool)
			for range rapid.IntRange(0, 6).Draw(t, "keys") {
				key := drawPath(t, "key")
				if rapid.IntRange(0, 9).Draw(t, "relative") == 0 {
					key = strings.TrimPrefix(key, "/")
				}
				if touched[key] {
					continue
				}
				touched[key] = true
				if !c.Full && rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
					c.Deleted = append(c.Deleted, key)
					delete(keys, key)
				} else {
					value := rapid.SampledFrom([]string{"1", "2"}).Draw(t, "value")
					c.Put = append(c.Put, backends.KV{Key: key, Value: value})
					keys[key] = value
				}
			}
			if got, want := fed.apply(c), !maps.Equal(before, keys); got != want {
				t.Fatalf("apply(%+v) = %v, want %v: %v became %v", c, got, want, before, keys)
			}
			sum := newView(r, "")
			full := backends.Change{Full: true}
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				full.Put = append(full.Put, backends.KV{Key: key, Value: keys[key]})
			}
			sum.apply(full)
			if got, want := everything(fed), everything(sum); !slices.Equal(got, want) {
				t.Fatalf("fed: %v, at once: %v, keys %v", got, want, keys)
			}
		}
	})
}

func everything(v *view) (all []string) {
	v.tree().branches["/"].walk(func(b *branch) bool {
		for _, kv := range b.pairs() {
			all = append(all, kv.Key+"="+kv.Value)
		}
		return true
	})
	slices.Sort(all)
	return all
}

// A template over all services costs what it prints: a hundred times the keys
// must not be ten thousand times the work.
func BenchmarkAllServices(b *testing.B) {
	for _, keys := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			names := newTree()
			for i := range keys {
				names.set(fmt.Sprintf("/services/s%05d/%d", i/10, i%10), "10.0.0.1:80")
			}
			for b.Loop() {
				n := 0
				for _, service := range names.ls("/services") {
					values, _ := names.getvs("/services/" + service + "/*")
					n += len(values)
				}
				if n != keys {
					b.Fatalf("got %d values, want %d", n, keys)
				}
			}
		})
	}
}
