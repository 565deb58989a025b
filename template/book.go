package template

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// reloadPause is how long a resource's reload_cmd is not run again under Watch
// and Every, however often its keys change.
const reloadPause = time.Second

// A Status is how a resource is doing. The counts begin with the engine.
type Status struct {
	File string `json:"file"` // of the resource
	Dest string `json:"dest"` // empty while the file can't be read

	Passes   int64 `json:"passes"`   // how often it was processed
	Failures int64 `json:"failures"` // how many of those failed
	Updates  int64 `json:"updates"`  // how often dest became new

	Updated time.Time `json:"updated,omitzero"` // the last time
	Failing time.Time `json:"failing,omitzero"` // since when every pass failed; zero: the last was good
	Err     string    `json:"err,omitempty"`    // of the last pass

	StoreErr string `json:"store_err,omitempty"` // why the store can't be read at the moment
}

// A book keeps what is to be remembered of each resource, by its file.
type book struct {
	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	Status
	owed     bool      // reload_cmd is to be run though dest may be in sync
	reloaded time.Time // when it was run last
}

func newBook() *book { return &book{entries: make(map[string]*entry)} }

// of is the entry of file. Nothing is kept of one that is gone and whose last
// pass only now ends.
func (b *book) of(file string) *entry {
	if e := b.entries[file]; e != nil {
		return e
	}
	return new(entry)
}

func (b *book) add(file string) *entry {
	e := b.entries[file]
	if e == nil {
		e = &entry{Status: Status{File: file}}
		b.entries[file] = e
	}
	return e
}

// loaded forgets the resources whose files are gone, and notes which of them
// are broken.
func (b *book) loaded(resources []*Resource, broken []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	there := make(map[string]bool)
	for _, r := range resources {
		there[r.File] = true
		b.add(r.File).Dest = r.Dest
	}
	for _, err := range broken {
		if e := (*LoadError)(nil); errors.As(err, &e) {
			there[e.Path] = true
			b.add(e.Path).passed(err)
		}
	}
	maps.DeleteFunc(b.entries, func(file string, _ *entry) bool { return !there[file] })
}

// files are those of the resources that are there, broken ones too.
func (b *book) files() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	files := make(map[string]bool)
	for file := range b.entries {
		files[file] = true
	}
	return files
}

// passed notes how a pass of r ended.
func (b *book) passed(r *Resource, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(r.File).passed(err)
}

func (e *entry) passed(err error) {
	e.Passes++
	if err == nil {
		e.Failing, e.Err = time.Time{}, ""
		return
	}
	e.Failures++
	e.Err = err.Error()
	if e.Failing.IsZero() {
		e.Failing = time.Now()
	}
}

func (b *book) updated(r *Resource) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.of(r.File)
	e.Updates++
	e.Updated = time.Now()
}

// store notes whether the store can be read for r.
func (b *book) store(r *Resource, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.of(r.File)
	e.StoreErr = ""
	if err != nil {
		e.StoreErr = err.Error()
	}
}

// owed reports whether r's reload_cmd failed or was put off: whoever reads dest
// still has the old one, however often we find it in sync.
func (b *book) owed(r *Resource) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(r.File).owed
}

func (b *book) owe(r *Resource) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(r.File).owed = true
}

func (b *book) reloaded(r *Resource, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.of(r.File)
	e.owed, e.reloaded = err != nil, time.Now()
}

// untilReload is how long r's reload_cmd has to wait.
func (b *book) untilReload(r *Resource) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.of(r.File)
	if e.reloaded.IsZero() {
		return 0
	}
	return time.Until(e.reloaded.Add(reloadPause))
}

func (b *book) status() []Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Status, 0, len(b.entries))
	for _, e := range b.entries {
		all = append(all, e.Status)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.File, b.File) })
	return all
}
