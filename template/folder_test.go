package template

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"muster/backends"
	"muster/backends/file"
)

// A folder is a confdir with one resource over one data file.
type folder struct {
	t      *testing.T
	dir    string
	engine *Engine

	mu     sync.Mutex
	events []Event
}

// newFolder writes the resource, to which src and dest are added, the template
// and the data.
func newFolder(t *testing.T, resource, source, data string) *folder {
	f := &folder{t: t, dir: t.TempDir()}
	f.write("conf.d/r.toml", "[template]\nsrc = \"t\"\ndest = \""+f.path("out/dest")+"\"\n"+resource)
	f.write("templates/t", source)
	f.write("data.yaml", data)
	f.write("out/keep", "")
	store := file.New(file.Config{Paths: []string{f.path("data.yaml")}, Match: backends.HasPrefix})
	engine, err := New(Config{Confdir: f.dir, Store: store, Report: f.report})
	if err != nil {
		t.Fatal(err)
	}
	f.engine = engine
	return f
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

// write renames over what is there, so that nobody reads half.
func (f *folder) write(name, text string) {
	f.t.Helper()
	path := f.path(name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path+".new", []byte(text), 0o644)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) want(name, text string) {
	f.t.Helper()
	got, err := os.ReadFile(f.path(name))
	if err != nil || string(got) != text {
		f.t.Errorf("%s: got %q, %v, want %q", name, got, err, text)
	}
}

func (f *folder) report(ev Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, ev)
}

func (f *folder) count(what What) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ev := range f.events {
		if ev.What == what {
			n++
		}
	}
	return n
}
