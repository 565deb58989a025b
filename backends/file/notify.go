package file

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long nothing must happen before files are read again, so that
// one that is being written in place isn't read half.
const quiet = 20 * time.Millisecond

// A notifier wakes a watch when one of a store's files may have changed. Where
// the system gives no such news wake stays silent, and the reading once a
// second has to do.
type notifier struct {
	wake chan struct{}

	watcher *fsnotify.Watcher // nil without news
	wg      sync.WaitGroup
}

func (s *Store) notify() *notifier {
	n := &notifier{wake: make(chan struct{}, 1)}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return n
	}
	n.watcher = w
	s.follow(w)
	n.wg.Go(func() { n.run(s) })
	return n
}

func (n *notifier) run(s *Store) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case event, ok := <-n.watcher.Events:
			if !ok {
				return
			}
			if s.concerns(event) {
				timer.Reset(quiet)
			}
		case _, ok := <-n.watcher.Errors:
			if !ok {
				return
			}
			timer.Reset(quiet) // events were lost
		case <-timer.C:
			s.follow(n.watcher) // there may be new folders
			select {
			case n.wake <- struct{}{}:
			default:
			}
		}
	}
}

// follow watches the files, all folders among them, and the parents of both: an
// editor and Kubernetes replace a file by renaming another over it. What can't
// be watched is left to the reading once a second.
func (s *Store) follow(w *fsnotify.Watcher) {
	have := w.WatchList()
	add := func(path string) {
		if !slices.Contains(have, path) {
			_ = w.Add(path)
		}
	}
	for _, path := range s.Paths {
		add(filepath.Dir(filepath.Clean(path)))
		_ = filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil || !entry.IsDir():
				return nil
			case strings.HasPrefix(entry.Name(), "..") && at != path:
				return filepath.SkipDir
			}
			add(at)
			return nil
		})
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			_ = w.Add(path) // anew each time: the name may stand for another file now
		}
	}
}

// concerns reports whether event may have changed one of the files. In the
// parent of a link anything may, because the link may lead over a neighbour.
func (s *Store) concerns(event fsnotify.Event) bool {
	if event.Op == fsnotify.Chmod {
		return false
	}
	return slices.ContainsFunc(s.Paths, func(path string) bool {
		path = filepath.Clean(path)
		if event.Name == path || strings.HasPrefix(event.Name, path+string(filepath.Separator)) {
			return true
		}
		info, err := os.Lstat(path)
		return err == nil && info.Mode().Type() == fs.ModeSymlink
	})
}

func (n *notifier) close() {
	if n.watcher != nil {
		n.watcher.Close()
	}
	n.wg.Wait()
}
