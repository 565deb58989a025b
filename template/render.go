package template

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	gotemplate "text/template"

	"muster/backends"
)

// A SourceError is why the template at Path can't be used.
type SourceError struct {
	Path    string
	Missing bool  // there is no such file
	Err     error // what is wrong with it otherwise, with file and line
}

func (e *SourceError) Error() string {
	if e.Missing {
		return fmt.Sprintf("template %s: no such file", e.Path)
	}
	return fmt.Sprintf("template %s: %v", e.Path, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// read returns what the store has under prefixes now.
func read(ctx context.Context, s backends.Store, prefixes []string) (map[string]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for c, err := range s.Watch(ctx, prefixes) {
		if err != nil {
			return nil, err
		}
		if c.Full {
			keys := make(map[string]string, len(c.Put))
			apply(keys, c)
			return keys, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("the store ended without an answer")
}

// apply brings keys up to c and reports whether that changed them.
func apply(keys map[string]string, c backends.Change) (changed bool) {
	if c.Full {
		put := make(map[string]bool, len(c.Put))
		for _, kv := range c.Put {
			put[kv.Key] = true
		}
		for key := range keys {
			if !put[key] {
				delete(keys, key)
				changed = true
			}
		}
	}
	for _, kv := range c.Put {
		if old, ok := keys[kv.Key]; !ok || old != kv.Value {
			keys[kv.Key] = kv.Value
			changed = true
		}
	}
	for _, key := range c.Deleted {
		if _, ok := keys[key]; ok {
			delete(keys, key)
			changed = true
		}
	}
	return changed
}

// stage executes r's template over keys into a new file beside dest and returns
// its path. Nothing is left when that fails.
func (e *Engine) stage(r *Resource, keys map[string]string) (path string, err error) {
	src := r.template(e.Confdir)
	if _, err := os.Stat(src); err != nil {
		return "", &SourceError{Path: src, Missing: os.IsNotExist(err), Err: err}
	}
	e.Report(Event{What: Rendering, Resource: r, Path: src})
	named := make(map[string]string, len(keys))
	for key, value := range keys {
		if strings.HasPrefix(key, "/") { // in etcd "x" is not "/x"
			named[r.name(e.Prefix, key)] = value
		}
	}
	t, err := gotemplate.New(filepath.Base(src)).Funcs(funcs(named)).ParseFiles(src)
	if err != nil {
		return "", &SourceError{Path: src, Err: err}
	}
	f, err := os.CreateTemp(filepath.Dir(r.Dest), "."+filepath.Base(r.Dest))
	if err != nil {
		return "", r.wrong("dest", r.Dest, err)
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := t.Execute(f, nil); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}
