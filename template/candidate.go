package template

import (
	"bytes"
	"crypto/md5"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	gotemplate "text/template"
	"time"
)

// A candidate is what a resource's dest may become: its text, and the stage file
// with it beside dest, unless dest has all of it already.
type candidate struct {
	resource *Resource
	names    *tree // the keys
	want     attributes
	text     []byte
	path     string // of the stage file; empty: there is none, and no need of one
	err      error  // why there is no candidate

	// What it was made of, beside the keys: the files as they were, nil where
	// there was none, and whatever else the template looks at.
	src, dest fs.FileInfo
	looks     bool
}

// A parsed template is kept while its file is as it was.
type parsed struct {
	template *gotemplate.Template
	names    *tree // that its functions know
	file     fs.FileInfo
	looks    bool
}

// settled is how old a file is when a later change of it is sure to have another
// time.
const settled = 2 * time.Second

// looking are the functions by which a template sees more of this machine than
// its keys. That the text has such a word for another reason costs little.
var looking = regexp.MustCompile(`include|fileExists|lookup`)

// prepare makes the candidate for r with names. It changes nothing but that it
// leaves the stage file. The parsed template is kept for the next time.
func (e *Engine) prepare(r *Resource, names *tree, kept *parsed, tell func(Event)) *candidate {
	c := &candidate{resource: r, names: names}
	if c.err = e.render(c, kept, tell); c.err == nil && (e.KeepStage || e.book.owed(r) || !c.current()) {
		c.err = c.stage(!e.Noop)
	}
	return c
}

// render executes the template.
func (e *Engine) render(c *candidate, kept *parsed, tell func(Event)) (err error) {
	r := c.resource
	if r.Dest == "" {
		return r.wrong("dest", r.Dest, errNoDest)
	}
	c.dest, _ = os.Stat(r.Dest)
	if c.want, err = r.attributes(); err != nil {
		return err
	}
	src := r.template(e.Confdir)
	if c.src, err = os.Stat(src); err != nil {
		c.src = nil
		return &SourceError{Path: src, Missing: os.IsNotExist(err), Err: err}
	}
	tell(Event{What: Rendering, Resource: r, Path: src})
	if kept.template == nil || kept.names != c.names || changed(kept.file, c.src) || time.Since(c.src.ModTime()) < settled {
		if err := e.parse(src, c, kept); err != nil {
			return &SourceError{Path: src, Err: err}
		}
	}
	c.looks = kept.looks
	var text bytes.Buffer
	if c.dest != nil && c.dest.Mode().IsRegular() {
		text.Grow(int(c.dest.Size())) // it will not differ much
	}
	err = kept.template.Execute(&text, nil)
	c.text = text.Bytes()
	return err
}

// parse fills kept with what is at src.
func (e *Engine) parse(src string, c *candidate, kept *parsed) error {
	*kept = parsed{names: c.names, file: c.src}
	source, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	kept.looks = looking.Match(source)
	kept.template, err = gotemplate.New(filepath.Base(src)).Funcs(e.funcs(c.names)).Parse(string(source))
	return err
}

// current reports whether dest has the text and the attributes already. Where
// that is not easily told it is false: then the stage file tells.
func (c *candidate) current() bool {
	if c.dest == nil || !c.dest.Mode().IsRegular() || c.dest.Size() != int64(len(c.text)) {
		return false
	}
	sys, ok := c.dest.Sys().(*syscall.Stat_t)
	if !ok || int(sys.Uid) != c.want.uid || int(sys.Gid) != c.want.gid || c.dest.Mode() != c.want.mode {
		return false
	}
	if c.want.mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return false // chown will take these away
	}
	have, err := os.ReadFile(c.resource.Dest)
	return err == nil && bytes.Equal(have, c.text)
}

// stage writes the candidate into a new file beside dest. Nothing is left when
// that fails.
func (c *candidate) stage(sync bool) (err error) {
	r := c.resource
	f, err := os.CreateTemp(filepath.Dir(r.Dest), "."+filepath.Base(r.Dest))
	if err != nil {
		return r.wrong("dest", r.Dest, err)
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
		if c.path = f.Name(); err != nil {
			c.discard()
		}
	}()
	if _, err := f.Write(c.text); err != nil {
		return err
	}
	// As in confd it is no error when only root could do it.
	_ = f.Chmod(c.want.mode)
	_ = f.Chown(c.want.uid, c.want.gid)
	if !sync {
		return nil
	}
	return f.Sync()
}

// discard removes the stage file, if there is one and it has not become dest.
func (c *candidate) discard() {
	if c.path != "" {
		os.Remove(c.path)
		c.path = ""
	}
}

// state is that of the stage file.
func (c *candidate) state() (state, error) {
	info, err := os.Stat(c.path)
	if err != nil {
		return state{}, err
	}
	sum := md5.Sum(c.text)
	return newState(info, sum[:]), nil
}

// stale reports whether what c was made of may be another by now, when others
// were processed since.
func (c *candidate) stale(confdir string) bool {
	r := c.resource
	return c.looks || touched(c.src, r.template(confdir)) || touched(c.dest, r.Dest)
}

func touched(then fs.FileInfo, path string) bool {
	now, err := os.Stat(path)
	if then == nil || err != nil {
		return then != nil || err == nil
	}
	return changed(then, now)
}

// changed reports whether a file was replaced or written between the two.
func changed(then, now fs.FileInfo) bool {
	return !os.SameFile(then, now) || then.Size() != now.Size() || then.Mode() != now.Mode() || !then.ModTime().Equal(now.ModTime())
}
