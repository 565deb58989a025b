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

// process brings dest up to v: stage, compare, check, replace, reload. With
// paced it runs reload_cmd at most once per reloadPause, and returns how long
// to wait until the next process that shall run it.
func (e *Engine) process(ctx context.Context, v *view, paced bool) (wait time.Duration, err error) {
	r := v.resource
	if r.Dest == "" {
		return 0, r.wrong("dest", r.Dest, errors.New("want the path of a file"))
	}
	want, err := r.attributes()
	if err != nil {
		return 0, err
	}
	stage, err := e.stage(v)
	if err != nil {
		return 0, err
	}
	if e.KeepStage {
		e.Report(Event{What: Kept, Resource: r, Path: stage})
	} else {
		defer os.Remove(stage) // gone already when it became dest
	}
	// As in confd it is no error when only root could do it.
	_ = os.Chmod(stage, want.mode)
	_ = os.Chown(stage, want.uid, want.gid)
	same := e.compare(r, stage)
	switch {
	case e.Noop:
		e.Report(Event{What: Spared, Resource: r})
		return 0, nil
	case same && !e.book.owed(r):
		e.Report(Event{What: InSync, Resource: r})
		return 0, nil
	case !same:
		if err := e.replace(ctx, r, stage); err != nil {
			return 0, err
		}
	}
	if wait := e.book.untilReload(r); paced && wait > 0 && !e.SyncOnly {
		e.book.owe(r)
		e.Report(Event{What: Postponed, Resource: r, Text: wait.String()})
		return wait, nil
	}
	return 0, e.reload(ctx, r, stage)
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

// compare reports whether dest has what the stage file has: owners, mode, text.
// What can't be compared is not the same.
func (e *Engine) compare(r *Resource, stage string) (same bool) {
	e.Report(Event{What: Comparing, Resource: r, Path: stage})
	have, err := stateOf(r.Dest)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var want [4]string
	if err == nil {
		want, err = stateOf(stage)
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

// stateOf is what compare compares. A folder has a state too: it differs.
func stateOf(path string) (state [4]string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return state, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return state, err
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		state[0], state[1] = strconv.Itoa(int(sys.Uid)), strconv.Itoa(int(sys.Gid))
	}
	state[2] = info.Mode().String()
	sum := md5.New()
	if _, err := io.Copy(sum, f); err != nil && !info.IsDir() {
		return state, err
	}
	state[3] = hex.EncodeToString(sum.Sum(nil))
	return state, nil
}

// replace checks the stage file and makes it dest.
func (e *Engine) replace(ctx context.Context, r *Resource, stage string) error {
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
	return syncFolder(filepath.Dir(r.Dest))
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

// syncFolder makes a rename in the folder last. Some file systems can't.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}
