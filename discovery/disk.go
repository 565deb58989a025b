package discovery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"muster/backends"
	"muster/catalog"
)

// When the newest snapshot is written: after diskQuiet without another one, or
// diskLate after the first that is not written, and at most every diskEvery.
const (
	diskQuiet = time.Second
	diskLate  = 10 * time.Second
	diskEvery = 5 * time.Second
)

// A diskRecord is what a file holds behind its head, as gob; then come its Keys
// of [backends.KV], each by itself, so that neither who writes nor who reads
// holds the whole twice.
type diskRecord struct {
	Origin, Prefix string
	At             time.Time // the store proved it then
	Revision       int64
	Keys           int
}

// diskHead begins a file; the SHA-256 of all before it ends it.
const diskHead = "muster snapshot 2\n"

// encode writes a whole file of the record and the keys of s.
func (r diskRecord) encode(to io.Writer, s *catalog.Snapshot) error {
	for range keysOf(s) {
		r.Keys++
	}
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(to, sum), 64<<10)
	_, _ = w.WriteString(diskHead) // what fails, fails in Flush
	enc := gob.NewEncoder(w)
	err := enc.Encode(r)
	for kv := range keysOf(s) {
		if err != nil {
			return err
		}
		err = enc.Encode(kv)
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = to.Write(sum.Sum(nil))
	}
	return err
}

// keysOf are the keys that s was made of.
func keysOf(s *catalog.Snapshot) iter.Seq[backends.KV] {
	return func(yield func(backends.KV) bool) {
		for e := range s.Entries() {
			if e.Plain.Key != "" && !yield(e.Plain) || e.Meta.Key != "" && !yield(e.Meta) {
				return
			}
		}
	}
}

func decodeDisk(text []byte) (r diskRecord, kvs []backends.KV, err error) {
	body, ok := bytes.CutPrefix(text, []byte(diskHead))
	if !ok || len(body) < sha256.Size {
		return r, nil, errors.New("not a snapshot, or cut off")
	}
	body = body[:len(body)-sha256.Size]
	all := text[:len(text)-sha256.Size]
	if sha256.Sum256(all) != [sha256.Size]byte(text[len(all):]) {
		return r, nil, errors.New("damaged: the checksum does not match")
	}
	dec := gob.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&r); err != nil {
		return r, nil, err
	}
	if r.Keys < 0 || r.Keys > len(body) {
		return r, nil, fmt.Errorf("%d keys in %d bytes", r.Keys, len(body))
	}
	kvs = make([]backends.KV, r.Keys)
	for i := range kvs {
		if err := dec.Decode(&kvs[i]); err != nil {
			return r, nil, err
		}
	}
	return r, kvs, nil
}

// load makes what the disk has the snapshot to begin with. A file that can't be
// used is one warning, and the one before it is tried.
func (w *Watcher) load() {
	if w.cfg.Disk == "" {
		return
	}
	for _, path := range []string{w.cfg.Disk, w.cfg.Disk + ".1"} {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var r diskRecord
		var kvs []backends.KV
		if err == nil {
			r, kvs, err = decodeDisk(text)
		}
		if err == nil && (r.Origin != w.cfg.Origin || r.Prefix != w.cfg.Prefix) {
			err = fmt.Errorf("it is of %s at %s: want %s at %s", r.Prefix, r.Origin, w.cfg.Prefix, w.cfg.Origin)
		}
		if err != nil {
			w.cfg.Log.Warn("snapshot on the disk is not used", "file", path, "err", err)
			continue
		}
		s := w.Snapshot().Apply(backends.Change{Revision: r.Revision, Full: true, Put: kvs})
		w.cfg.Log.Info("beginning with the snapshot on the disk", "file", path, "services", count(s),
			"revision", r.Revision, "age", time.Since(r.At).Round(time.Second))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.loaded, w.revision, w.proof = s, r.Revision, r.At
		w.publish(s)
		return
	}
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
	d.next = time.Now().Add(diskEvery)
	r := diskRecord{Origin: d.cfg.Origin, Prefix: d.cfg.Prefix, At: d.Status().Proof, Revision: s.Revision}
	err := replace(d.cfg.Disk, func(w io.Writer) error { return r.encode(w, s) })
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
