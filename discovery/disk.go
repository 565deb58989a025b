package discovery

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"muster/catalog"
)

// When the newest snapshot is written: after diskQuiet without another one, or
// diskLate after the first that is not written, and at most every diskEvery. A
// large one is written more seldom: writing takes no more than a hundredth of the
// time.
const (
	diskQuiet = time.Second
	diskLate  = 10 * time.Second
	diskEvery = 5 * time.Second
	diskShare = 100
)

// load makes what the disk has the snapshot to begin with. A file that can't be
// used is one warning, and the one before it is tried.
func (w *Watcher) load() {
	if w.cfg.Disk == "" {
		return
	}
	for _, path := range []string{w.cfg.Disk, w.cfg.Disk + ".1"} {
		r, s, err := w.read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			w.cfg.Log.Warn("snapshot on the disk is not used", "file", path, "err", err)
			continue
		}
		w.cfg.Log.Info("beginning with the snapshot on the disk", "file", path, "services", count(s),
			"revision", r.Revision, "age", time.Since(r.At).Round(time.Second))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.loaded, w.revision, w.proof = s, r.Revision, r.At
		w.publish(s)
		return
	}
}

func (w *Watcher) read(path string) (r diskRecord, s *catalog.Snapshot, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, nil, err
	}
	defer f.Close()
	return decodeDisk(f, w.cfg.Origin, w.cfg.Prefix, w.Snapshot())
}

// keepOnDisk writes the snapshots of the store, not each of them, until ctx
// ends; then the last one.
func (w *Watcher) keepOnDisk(ctx context.Context) {
	d := disk{Watcher: w}
	var known *catalog.Snapshot
	for {
		s, err := w.Next(ctx, known)
		if err != nil {
			return
		}
		known = s
		if w.IsLoaded(s) {
			continue
		}
		known = w.quiet(ctx, known, d.next)
		d.write(known)
	}
}

// quiet waits until it is time to write, and returns the newest snapshot.
func (w *Watcher) quiet(ctx context.Context, s *catalog.Snapshot, earliest time.Time) *catalog.Snapshot {
	late, cancel := context.WithTimeout(ctx, max(diskLate, time.Until(earliest)))
	defer cancel()
	for {
		still, done := context.WithTimeout(late, max(diskQuiet, time.Until(earliest)))
		next, err := w.Next(still, s)
		done()
		if err != nil {
			return s
		}
		s = next
	}
}

// A disk writes snapshots.
type disk struct {
	*Watcher
	next time.Time // not before
	bad  bool      // the last one could not be written, and that was logged
}

func (d *disk) write(s *catalog.Snapshot) {
	began := time.Now()
	r := diskRecord{Origin: d.cfg.Origin, Prefix: d.cfg.Prefix, At: d.Status().Proof, Revision: s.Revision}
	err := replace(d.cfg.Disk, func(w io.Writer) error { return r.encode(w, s) })
	now := time.Now()
	d.next = now.Add(max(diskEvery, diskShare*now.Sub(began)))
	switch {
	case err != nil && !d.bad:
		d.cfg.Log.Warn("snapshot can't be kept on the disk: a restart will need the store", "file", d.cfg.Disk, "err", err)
	case err == nil && d.bad:
		d.cfg.Log.Info("snapshot is kept on the disk again", "file", d.cfg.Disk)
	}
	d.bad = err != nil
}

// replace makes the file at path of what write writes, all of it or nothing, and
// keeps the file before as path.1.
func replace(path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
