package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// claimWithin is how long a process may take to write again what the one
// before had written. It is taken back after that.
const claimWithin = time.Minute

// A leaseFile is [Lease.File] while Run runs.
type leaseFile struct {
	lock *os.File // nil: not open
	bad  bool     // it can't be written, and that was logged
}

// A leaseRecord is what the file holds, as JSON.
type leaseRecord struct {
	Lease string            `json:"lease"` // in hex, as etcdctl prints it
	TTL   float64           `json:"ttl_s"` // that was asked for
	Keys  map[string]string `json:"keys"`  // as they were written
}

// openFile takes up what the process before left. The file's neighbour
// FILE.lock keeps a second process out.
func (l *Lease) openFile() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.File == "" || l.file.lock != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.File), 0o755); err != nil {
		return fmt.Errorf("lease file: %w", err)
	}
	lock, err := os.OpenFile(l.File+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lease file: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return fmt.Errorf("lease file %s: another process uses it: %w", l.File, err)
	}
	l.file.lock = lock
	r, id, err := readLeaseFile(l.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		l.store.log.Warn("lease file can't be read, starting without", "store", "etcd", "file", l.File, "err", err)
		return nil
	}
	// Keys that hang on it are ours, also if it is not taken up.
	l.mine[id] = true
	l.wishes.former = maps.Clone(r.Keys)
	if r.TTL == l.ttl.Seconds() {
		l.id = id
		l.store.log.Info("taking up the lease of the process before", "store", "etcd", "lease", hex(id), "keys", len(r.Keys))
	}
	return nil
}

func readLeaseFile(path string) (r leaseRecord, id int64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, 0, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, 0, err
	}
	if id, err = strconv.ParseInt(r.Lease, 16, 64); err == nil && id == 0 {
		err = errors.New("no lease in it")
	}
	return r, id, err
}

// saveFile writes the file anew. l.mu is held. One that can't be written is one
// warning: the next process announces anew.
func (l *Lease) saveFile() {
	if l.file.lock == nil || l.ended || l.id == 0 {
		return
	}
	r := leaseRecord{Lease: hex(l.id), TTL: l.ttl.Seconds(), Keys: maps.Clone(l.wishes.former)}
	if r.Keys == nil {
		r.Keys = make(map[string]string)
	}
	for key, w := range l.wishes.keys {
		if !w.absent {
			r.Keys[key] = w.value
		}
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(l.File+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(l.File+".new", l.File)
	}
	if err != nil && !l.file.bad {
		l.store.log.Warn("lease file can't be written: the next process will announce anew", "store", "etcd", "file", l.File, "err", err)
	}
	l.file.bad = err != nil
}

// remove is called when the lease is given back: there is nothing to take up.
func (f *leaseFile) remove(path string) {
	if f.lock != nil {
		_ = os.Remove(path) // what is left of it names a lease that etcd does not know
	}
}

func (f *leaseFile) unlock() {
	if f.lock != nil {
		f.lock.Close()
		f.lock = nil
	}
}

// Former is the value of key that the process before had written, as File says,
// until this one writes the key.
func (l *Lease) Former(key string) (value string, ok bool) {
	if err := l.openFile(); err != nil {
		return "", false // Run says why
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	value, ok = l.wishes.former[key]
	return value, ok
}
