package template

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	gotemplate "text/template"
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

// read fills v with what the store has now.
func (e *Engine) read(ctx context.Context, v *view) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for c, err := range e.Store.Watch(ctx, v.resource.prefixes(e.Prefix)) {
		if err != nil {
			return err
		}
		if c.Full {
			v.apply(c)
			return nil
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.New("the store ended without an answer")
}

// stage executes the template of v's resource into a new file beside dest and
// returns its path. Nothing is left when that fails.
func (e *Engine) stage(v *view) (path string, err error) {
	r := v.resource
	src := r.template(e.Confdir)
	if _, err := os.Stat(src); err != nil {
		return "", &SourceError{Path: src, Missing: os.IsNotExist(err), Err: err}
	}
	e.Report(Event{What: Rendering, Resource: r, Path: src})
	t, err := gotemplate.New(filepath.Base(src)).Funcs(e.funcs(v.tree())).ParseFiles(src)
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
	w := bufio.NewWriterSize(f, 64<<10) // a template writes word by word
	if err := t.Execute(w, nil); err != nil {
		return "", err
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}
