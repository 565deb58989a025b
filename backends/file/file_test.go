package file

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"muster/backends"
	"muster/backends/backendtest"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace puts text where path is as editors do: by renaming over it.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A reader gets no error but those that a test waits for.
type reader struct {
	*backendtest.Reader
	t *testing.T
}

func follow(t *testing.T, s backends.Store, prefixes ...string) reader {
	return reader{backendtest.NewReader(t, s, prefixes...), t}
}

// until is Has of a store that is well.
func (r reader) until(want string) {
	r.t.Helper()
	before := len(r.Errors)
	r.Has(want)
	if said := r.Errors[before:]; len(said) > 0 {
		r.t.Fatalf("on the way to %q: %q", want, said)
	}
}

func TestPrefixesByElementAndByString(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.yaml")
	write(t, path, "web: {a: 1}\nwebdav: {b: 2}\nother: 3\n")
	for name, c := range map[string]struct {
		match func(prefix, key string) bool
		want  string
	}{
		"unset":     {nil, "/web/a=1"},
		"Under":     {backends.Under, "/web/a=1"},
		"HasPrefix": {backends.HasPrefix, "/web/a=1 /webdav/b=2"},
	} {
		t.Run(name, func(t *testing.T) {
			follow(t, New(Config{Paths: []string{path}, Match: c.match}), "/web").until(c.want)
		})
	}
}

func TestLaterFileOverridesKeyByKey(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "d", "b.toml"), "v = 'b'\nb = 1\n")
	write(t, filepath.Join(dir, "d", "a.json"), `{"v": "a", "a": 1}`)
	write(t, filepath.Join(dir, "d", "sub", "c.yaml"), "v: c\nc: 1")
	write(t, filepath.Join(dir, "last"), "c: 2")
	s := New(Config{Paths: []string{filepath.Join(dir, "d"), filepath.Join(dir, "last")}, Filter: "*"})
	follow(t, s, "/").until("/a=1 /b=1 /c=2 /v=c")
}

func TestWatchSaysWhatChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.yaml")
	write(t, path, "a: 1\nb: 2\nc: 3\n")
	r := follow(t, New(Config{Paths: []string{path}}), "/")
	r.until("/a=1 /b=2 /c=3")
	replace(t, path, "a: 1\nb: new\nd: 4\n")
	for {
		c, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Put)+len(c.Deleted) == 0 {
			continue // nothing new
		}
		if got := fmt.Sprint(c.Full, c.Put, c.Deleted); got != "false [{/b new 0 0 0} {/d 4 0 0 0}] [/c]" {
			t.Fatalf("got %s, want b and d put, c deleted", got)
		}
		return
	}
}

func TestBrokenFileKeepsWhatWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.yaml")
	write(t, path, "a: 1\n")
	r := follow(t, New(Config{Paths: []string{path}}), "/")
	r.until("/a=1")
	replace(t, path, "a: 1\nb: [\n")
	r.Fails("data.yaml: yaml: line 2")
	if got := backendtest.Text(r.Keys); got != "/a=1" {
		t.Errorf("keys are %q, want /a=1 still", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.Fails("no such file")
	replace(t, path, "a: 1\nb: 2\n")
	r.until("/a=1 /b=2")
}

// kubernetes puts a new version into a volume as the kubelet does: a folder of
// links through ..data, which is swapped.
func kubernetes(t *testing.T, dir, version, text string) {
	t.Helper()
	write(t, filepath.Join(dir, version, "data.yaml"), text)
	if err := os.Symlink(version, filepath.Join(dir, "..tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// The store reads once a second in any case; these changes must wake it.
func TestChangesWake(t *testing.T) {
	for _, c := range []struct {
		name   string
		path   string // below the test's folder, what the store is given
		before func(t *testing.T, dir string)
		change func(t *testing.T, dir string)
	}{
		{
			"written in place", "data.yaml",
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "data.yaml"), "a: 1") },
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "data.yaml"), "a: 2") },
		},
		{
			"renamed over", "data.yaml",
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "data.yaml"), "a: 1") },
			func(t *testing.T, dir string) { replace(t, filepath.Join(dir, "data.yaml"), "a: 2") },
		},
		{
			"made later", "data.yaml",
			func(*testing.T, string) {},
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "data.yaml"), "a: 2") },
		},
		{
			"removed", "data.yaml",
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "data.yaml"), "a: 1") },
			func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "data.yaml")) },
		},
		{
			"in a folder below", "d",
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "d", "sub", "data.yaml"), "a: 1") },
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "d", "sub", "more.yaml"), "b: 2") },
		},
		{
			"a link swapped", "data.yaml",
			func(t *testing.T, dir string) {
				kubernetes(t, dir, "..1", "a: 1")
				if err := os.Symlink("..data/data.yaml", filepath.Join(dir, "data.yaml")); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, dir string) { kubernetes(t, dir, "..2", "a: 2") },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.before(t, dir)
			s := New(Config{Paths: []string{filepath.Join(dir, c.path)}, Filter: "*"})
			n := s.notify()
			defer n.close()
			c.change(t, dir)
			select {
			case <-n.wake:
			case <-time.After(time.Minute):
				t.Fatal("not woken")
			}
		})
	}
}

// A mounted volume holds its new version beside the old one before it swaps, and
// the old one for a while after. Only the one behind the links counts, and it
// changes at one moment.
func TestVolumeOfKubernetes(t *testing.T) {
	dir := t.TempDir()
	kubernetes(t, dir, "..2026_01", "old: 1\nboth: 1\n")
	if err := os.Symlink("..data/data.yaml", filepath.Join(dir, "data.yaml")); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Paths: []string{dir}, Filter: "*"})
	r := follow(t, s, "/")
	r.until("/both=1 /old=1")
	write(t, filepath.Join(dir, "..2026_02", "early.yaml"), "early: 1\n") // not swapped in yet
	for range 3 {
		if c, err := r.Next(); err != nil || len(c.Put)+len(c.Deleted) > 0 {
			t.Fatalf("before the swap: got %+v, %v, want nothing", c, err)
		}
	}
	kubernetes(t, dir, "..2026_02", "new: 2\nboth: 2\n")
	for {
		c, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Put)+len(c.Deleted) == 0 {
			continue
		}
		if got := fmt.Sprint(c.Put, c.Deleted); got != "[{/both 2 0 0 0} {/new 2 0 0 0}] [/old]" {
			t.Errorf("the swap: got %s, want both and new put and old deleted, at once", got)
		}
		break
	}
	if err := os.RemoveAll(filepath.Join(dir, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	kubernetes(t, dir, "..2026_03", "new: 3\n")
	for keys := ""; keys != "[{/new 3 0 0 0}] [/both]"; { // and no error on the way
		c, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		keys = fmt.Sprint(c.Put, c.Deleted)
	}
}

// A file that was just written may still be written: it is read when it was left
// alone for a moment, so that it is not read half.
func TestReadsWhatIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.yaml")
	for i := range 10 {
		write(t, path, fmt.Sprint("a: ", i))
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readSettled(path)
		if age := time.Since(info.ModTime()); err != nil || string(got) != fmt.Sprint("a: ", i) || age < quiet {
			t.Errorf("got %q, %v, %v after it was written, want it after %v", got, err, age, quiet)
		}
	}
	// A clock that is wrong does not keep it from being read.
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, future, future); err != nil {
		t.Fatal(err)
	}
	if got, err := readSettled(path); err != nil || string(got) != "a: 9" {
		t.Errorf("got %q, %v of a file from the future", got, err)
	}
}

// Goroutines, open files and memory stay as they are over 1,000 changes: the
// original leaks a goroutine at each.
func TestNothingGrows(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "data.yaml")
	write(t, path, "a: first\n")
	r := follow(t, New(Config{Paths: []string{dir}, Filter: "*.yaml"}), "/")
	r.until("/a=first")
	round := func(n int) {
		for i := range n {
			replace(t, path, fmt.Sprintf("a: %d\n", i))
			write(t, filepath.Join(dir, "sub", "b.yaml"), fmt.Sprintf("b: %d\n", i))
		}
		r.until(fmt.Sprintf("/a=%d /b=%d", n-1, n-1))
	}
	round(10)
	heap, goroutines, files := backendtest.Heap(), runtime.NumGoroutine(), openFiles(t)
	for range 10 {
		round(100)
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		t.Errorf("got %d goroutines, want %d as before", got, goroutines)
	}
	if got := openFiles(t); got > files {
		t.Errorf("got %d open files, want %d as before", got, files)
	}
	if grown := backendtest.Heap() - heap; grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// openFiles is zero where the system does not list them.
func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(names)
}

func TestNewFolderIsWatchedToo(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "a: 1")
	r := follow(t, New(Config{Paths: []string{dir}, Filter: "*.yaml"}), "/")
	r.until("/a=1")
	write(t, filepath.Join(dir, "new", "deep", "b.yaml"), "b: 1")
	r.until("/a=1 /b=1")
	replace(t, filepath.Join(dir, "new", "deep", "b.yaml"), "b: 2")
	r.until("/a=1 /b=2")
}

func TestOpen(t *testing.T) {
	for url, want := range map[string]string{
		"file:/etc/x.yaml":   "/etc/x.yaml",
		"file:rel/x.yaml":    "rel/x.yaml",
		"file:///etc/x.yaml": "/etc/x.yaml",
	} {
		s, err := Open(url)
		if err != nil || s.Paths[0] != want {
			t.Errorf("Open(%q) = %v, %v, want %s", url, s, err, want)
		}
	}
	for _, url := range []string{"file:", "file://", "file://host/x", "/etc/x.yaml"} {
		if s, err := Open(url); err == nil {
			t.Errorf("Open(%q) = %v, want an error", url, s)
		}
	}
}
