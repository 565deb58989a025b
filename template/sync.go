package template

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// syncPause is how long a renamed file waits at most for its folder to be synced.
// That makes the rename outlive a power failure; without it dest is the old file,
// whole, and the first pass afterwards renders it again.
const syncPause = time.Second

// unsynced are the folders that are to be synced, each once, and for whom.
type unsynced map[string][]*Resource

// add notes that r's dest was renamed.
func (u unsynced) add(r *Resource) {
	folder := filepath.Dir(r.Dest)
	if !slices.Contains(u[folder], r) {
		u[folder] = append(u[folder], r)
	}
}

// sync syncs all of them, and tells whose couldn't be.
func (u unsynced) sync(failed func(*Resource, error)) {
	for folder, resources := range u {
		if err := syncFolder(folder); err != nil {
			for _, r := range resources {
				failed(r, err)
			}
		}
	}
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

// A syncer syncs folders while others go on renaming in them.
type syncer struct {
	failed func(*Resource, error)
	some   chan struct{} // holds one token while there are some

	mu      sync.Mutex
	folders unsynced
}

func newSyncer(failed func(*Resource, error)) *syncer {
	return &syncer{failed: failed, some: make(chan struct{}, 1), folders: make(unsynced)}
}

func (s *syncer) add(r *Resource) {
	s.mu.Lock()
	s.folders.add(r)
	s.mu.Unlock()
	select {
	case s.some <- struct{}{}:
	default:
	}
}

// run syncs each syncPause what there is, until ctx ends.
func (s *syncer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.some:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(syncPause):
		}
		s.sync()
	}
}

func (s *syncer) sync() {
	s.mu.Lock()
	folders := s.folders
	s.folders = make(unsynced)
	s.mu.Unlock()
	folders.sync(s.failed)
}
