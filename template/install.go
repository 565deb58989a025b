package template

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

var errNoDest = errors.New("want the path of a file")

// finish makes dest what c is: compare, check, replace, reload. With paced it runs
// reload_cmd at most once per reloadPause, and returns how long to wait until the
// next time that shall run it. Where no command is run, later is told that dest's
// folder is to be synced.
func (e *Engine) finish(ctx context.Context, c *candidate, paced bool, later func(*Resource)) (wait time.Duration, err error) {
	if c.err != nil {
		return 0, c.err
	}
	r := c.resource
	if e.KeepStage {
		e.Report(Event{What: Kept, Resource: r, Path: c.path})
	} else {
		defer c.discard() // gone already when it became dest
	}
	same := e.compare(c)
	switch {
	case e.Noop:
		e.Report(Event{What: Spared, Resource: r})
		return 0, nil
	case same && !e.book.owed(r):
		e.Report(Event{What: InSync, Resource: r})
		return 0, nil
	case !same:
		if err := e.replace(ctx, r, c.path, later); err != nil {
			return 0, err
		}
	}
	if wait := e.book.untilReload(r); paced && wait > 0 && !e.SyncOnly {
		e.book.owe(r)
		e.Report(Event{What: Postponed, Resource: r, Text: wait.String()})
		return wait, nil
	}
	return 0, e.reload(ctx, r, c.path)
}

// reload tells those who read dest that it is new.
func (e *Engine) reload(ctx context.Context, r *Resource, stage string) error {
	if !e.SyncOnly && r.Reload != "" {
		err := e.command(ctx, r, "reload_cmd", r.Reload, e.ReloadTimeout, stage)
		e.book.reloaded(r, err)
		if err != nil {
			return err
		}
	}
	e.book.updated(r)
	e.Report(Event{What: Updated, Resource: r})
	return nil
}

// attributes are what dest shall have beside its text.
type attributes struct {
	mode     fs.FileMode
	uid, gid int
}

func (r *Resource) attributes() (a attributes, err error) {
	mode, given, err := r.mode()
	if err != nil {
		return a, err
	}
	if a.mode = mode; !given {
		switch info, err := os.Stat(r.Dest); {
		case err == nil:
			a.mode = info.Mode()
		case errors.Is(err, fs.ErrNotExist):
			a.mode = 0o644
		default:
			return a, r.wrong("dest", r.Dest, err)
		}
	}
	a.uid, a.gid, err = r.owners()
	return a, err
}

// compare reports whether dest has what the candidate has: owners, mode, text.
// What can't be compared is not the same.
func (e *Engine) compare(c *candidate) (same bool) {
	r := c.resource
	e.Report(Event{What: Comparing, Resource: r, Path: c.path})
	if c.path == "" {
		return true
	}
	have, err := stateOf(r.Dest)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var want state
	if err == nil {
		want, err = c.state()
	}
	if err != nil {
		e.Report(Event{What: Uncomparable, Resource: r, Err: err})
		return false
	}
	same = true
	for i, field := range [...]string{"UID", "GID", "mode", "md5sum"} {
		if have[i] != want[i] {
			same = false
			e.Report(Event{What: Differs, Resource: r, Field: field, Have: have[i], Want: want[i]})
		}
	}
	return same
}

// A state is what compare compares: owners, mode, and the text's sum.
type state [4]string

func newState(info fs.FileInfo, sum []byte) (s state) {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s[0], s[1] = strconv.Itoa(int(sys.Uid)), strconv.Itoa(int(sys.Gid))
	}
	s[2], s[3] = info.Mode().String(), hex.EncodeToString(sum)
	return s
}

// stateOf is that of the file at path. A folder has one too: it differs.
func stateOf(path string) (state, error) {
	f, err := os.Open(path)
	if err != nil {
		return state{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return state{}, err
	}
	sum := md5.New()
	if _, err := io.Copy(sum, f); err != nil && !info.IsDir() {
		return state{}, err
	}
	return newState(info, sum.Sum(nil)), nil
}

// replace checks the stage file and makes it dest.
func (e *Engine) replace(ctx context.Context, r *Resource, stage string, later func(*Resource)) error {
	e.Report(Event{What: OutOfSync, Resource: r})
	if !e.SyncOnly && r.Check != "" {
		if err := e.command(ctx, r, "check_cmd", r.Check, e.CheckTimeout, stage); err != nil {
			return err
		}
	}
	e.Report(Event{What: Replacing, Resource: r})
	err := os.Rename(stage, r.Dest)
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) {
		return overwrite(r.Dest, stage)
	}
	if err != nil {
		return r.wrong("dest", r.Dest, err)
	}
	if e.KeepStage {
		if err := os.Link(r.Dest, stage); err != nil {
			return err
		}
	}
	if e.runs(r) {
		return syncFolder(filepath.Dir(r.Dest)) // a command may tell others of it
	}
	later(r)
	return nil
}

// overwrite writes the stage file's text into dest, which is a mount and can't
// be replaced: whoever reads it meanwhile, or after the process was killed here,
// may see a part of both. So it is one write, and dest is cut to size after it
// and not before: it is never empty, and never mixed where both are as long and
// fit into a page.
func overwrite(dest, stage string) error {
	text, err := os.ReadFile(stage)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(dest, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		err = f.Truncate(int64(len(text)))
	}
	if info, e := os.Stat(stage); e == nil {
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(int(sys.Uid), int(sys.Gid))
		}
		_ = f.Chmod(info.Mode())
	}
	return errors.Join(err, f.Sync(), f.Close())
}
