package template

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"muster/backends"
	"muster/backends/file"
	"muster/internal/proctest"
)

// Each of many resources has its own prefix: there is one watch stream for all of
// them, a change costs no read and reaches those whose keys it is about, and no
// other.
func TestOneStreamForManyPrefixes(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/all\"]\n", `{{len (gets "/all/*/*")}}`, "")
	client := f.etcd()
	addr := strings.TrimPrefix(client.Endpoints()[0], "http://")
	const resources = 50
	for i := range resources {
		put(t, client, fmt.Sprintf("/all/%d/k", i), "old")
		f.write(fmt.Sprint("templates/", i), fmt.Sprintf(`{{getv "/all/%d/k"}}`, i))
		f.resource(fmt.Sprint("r", i), fmt.Sprint(i), fmt.Sprint("out/", i), fmt.Sprintf(`"/all/%d"`, i), "")
	}
	before, watched := counted(t, addr, calls), counted(t, addr, streams)
	stop := f.watch()
	defer stop()
	f.becomes("out/dest", fmt.Sprint(resources))
	for i := range resources {
		f.becomes(fmt.Sprint("out/", i), "old")
	}
	read := counted(t, addr, calls) - before
	lost := func() bool { return f.count(StoreFailed) > 0 } // on a busy machine etcd may be given up for a moment
	if n := counted(t, addr, streams) - watched; (n != 1 || read > 3) && !lost() {
		t.Errorf("%d streams and %d reads for %d resources, want 1 and at most 3", n, read, resources+1)
	}
	for i := range resources {
		put(t, client, fmt.Sprintf("/all/%d/k", i), fmt.Sprint("new", i))
		f.becomes(fmt.Sprint("out/", i), fmt.Sprint("new", i))
	}
	if n := counted(t, addr, calls) - before - read; n != 0 && !lost() {
		t.Errorf("%d reads for %d changes, want none", n, resources)
	}
	put(t, client, "/all/new/k", "v")
	f.becomes("out/dest", fmt.Sprint(resources+1))
	proctest.Eventually(t, "each was processed at the start and for its key", func() bool {
		for _, s := range f.engine.Status() {
			if s.Passes != 2 && filepath.Base(s.File) != "r.toml" {
				return false
			}
		}
		return true
	})

	// New resources get one more, and the others keep theirs.
	for i := range 3 {
		f.resource(fmt.Sprint("s", i), "value", fmt.Sprint("out/s", i), fmt.Sprintf(`"/one", "/s/%d"`, i), "")
	}
	f.write("templates/value", `{{getv "/one"}}`)
	put(t, client, "/one", "1")
	f.engine.Reread()
	f.becomes("out/s2", "1")
	put(t, client, "/one", "2")
	put(t, client, "/all/7/k", "again")
	f.becomes("out/s0", "2")
	f.becomes("out/s1", "2")
	f.becomes("out/s2", "2")
	f.becomes("out/7", "again")
	if n := counted(t, addr, streams) - watched; n != 2 && !lost() {
		t.Errorf("%d streams after three more resources, want 2", n)
	}
}

// A user who may not read the keys of one resource gets those of the others.
func TestWatchOfWhatIsAllowed(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/mine\"]\n", `{{getv "/mine/k"}}`, "")
	f.resource("q", "t", "out/other", `"/other"`, "")
	f.resource("s", "u", "out/also", `"/mine/also"`, "")
	f.write("templates/u", `{{getv "/mine/also/k" "none"}}`)
	client := f.etcdOfMine()
	stop := f.watch()
	defer stop()
	f.becomes("out/dest", "1")
	f.becomes("out/also", "none")
	put(t, client, "/mine/also/k", "2")
	put(t, client, "/mine/k", "3")
	f.becomes("out/also", "2")
	f.becomes("out/dest", "3")
	proctest.Eventually(t, "only what is denied is so in the status", func() bool {
		for _, s := range f.engine.Status() {
			if denied := strings.Contains(s.StoreErr, "permission denied"); denied != strings.HasSuffix(s.File, "q.toml") {
				return false
			}
		}
		return true
	})
}

// An index says the same as asking each prefix.
func TestIndexIsUnder(t *testing.T) {
	path := rapid.StringMatching(`/?([ab./]{0,3}/){0,3}[ab.]{0,2}/?`)
	rapid.Check(t, func(t *rapid.T) {
		x := newIndex()
		sets := make(map[string]set)
		for range rapid.IntRange(1, 5).Draw(t, "sets") {
			s := newSet(rapid.SliceOfN(path, 1, 4).Draw(t, "prefixes"))
			if _, twice := sets[s.name]; !twice {
				sets[s.name] = s
				x.add(s)
			}
		}
		key := path.Draw(t, "key")
		var want []string
		for name, s := range sets {
			if backends.UnderAny(nil, s.prefixes, key) {
				want = append(want, name)
			}
		}
		got := x.of(nil, key)
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("key %q in %q: -Under +index\n%s", key, x.names, diff)
		}
		parts := x.split(backends.Change{Full: true, Put: []backends.KV{{Key: key}}})
		if len(parts) != len(sets) {
			t.Fatalf("a Full Change is for %d of %d sets", len(parts), len(sets))
		}
		for name, part := range parts {
			mine := len(sets) == 1 || slices.Contains(want, name)
			if !part.Full || mine != (len(part.Put) == 1) {
				t.Fatalf("set %q gets %+v", name, part)
			}
		}
	})
}

// A template is parsed again when its file was changed, however little of that
// can be seen from outside.
func TestChangedTemplateIsReadAgain(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/\"]\n", `A {{getv "/a"}}`, "a: 1")
	now := time.Now()
	stop := f.watch()
	defer stop()
	f.becomes("out/dest", "A 1")
	for i, text := range []string{"B", "C"} { // as long, written in place, of the same time
		if err := os.WriteFile(f.path("templates/t"), []byte(text+` {{getv "/a"}}`), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(f.path("templates/t"), now, now); err != nil {
			t.Fatal(err)
		}
		f.write("data.yaml", fmt.Sprint("a: ", i+2))
		f.becomes("out/dest", fmt.Sprint(text, " ", i+2))
	}
	old := now.Add(-time.Hour)
	if err := os.Chtimes(f.path("templates/t"), old, old); err != nil {
		t.Fatal(err)
	}
	f.write("data.yaml", "a: 8")
	f.becomes("out/dest", "C 8")
	f.write("data.yaml", "a: 9") // it is kept by now
	f.becomes("out/dest", "C 9")
	f.write("templates/t", `D {{getv "/a"}}`)
	if err := os.Chtimes(f.path("templates/t"), old, old); err != nil {
		t.Fatal(err)
	}
	f.write("data.yaml", "a: 10")
	f.becomes("out/dest", "D 10")
}

// The folder of a file that is new is synced a little later: here that can't be
// done.
func TestFolderIsSyncedLater(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/\"]\n", `{{getv "/a"}}`, "a: 1")
	stop := f.watch()
	defer stop()
	f.becomes("out/dest", "1")
	if err := os.RemoveAll(f.path("out")); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, "that the folder can't be synced", func() bool { return f.count(Failed) == 1 })
	if s := f.engine.Status()[0]; !strings.Contains(s.Err, f.path("out")) {
		t.Errorf("the status says %q, want the folder", s.Err)
	}
}

// A store that matches by string, as confd opens env and file, does so under a
// watch too.
func TestWatchByString(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data.yaml")
	if err := os.WriteFile(data, []byte("web: {a: 1}\nwebdav: {a: 2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := share(file.New(file.Config{Paths: []string{data}, Match: backends.HasPrefix}))
	for c, err := range s.Watch(t.Context(), []string{"/web"}) {
		slices.SortFunc(c.Put, func(a, b backends.KV) int { return strings.Compare(a.Key, b.Key) })
		if got := fmt.Sprint(c.Put); err != nil || got != "[{/web/a 1 0 0 0} {/webdav/a 2 0 0 0}]" {
			t.Errorf("got %s, %v", got, err)
		}
		break
	}
}
