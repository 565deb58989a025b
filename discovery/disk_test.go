package discovery_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"muster/backends/backendtest"
	"muster/backends/etcd"
	"muster/discovery"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// onDisk follows the etcd at addr with a file, until the test ends or stop.
func onDisk(t *testing.T, addr, file, origin string) (w *discovery.Watcher, log *backendtest.Logbook, stop func()) {
	t.Helper()
	log = new(backendtest.Logbook)
	logger := slog.New(slog.NewTextHandler(log, nil))
	store, err := etcd.Open("etcd://"+addr, logger)
	if err != nil {
		t.Fatal(err)
	}
	w = discovery.New(discovery.Config{Store: store, Log: logger, Disk: file, Origin: origin})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait(); store.Close() })
	t.Cleanup(stop)
	return w, log, stop
}

// Without etcd a start has what was known, and says so; when etcd comes back
// what did not change is the same.
func TestStartWithoutTheStore(t *testing.T) {
	s := etcdtest.Start(t)
	file := filepath.Join(t.TempDir(), "state", "snapshot")
	announce(t, s, "web", 3)
	put(t, s, "/services/api/1", "h:9")
	w, _, stop := onDisk(t, s.Addr(), file, "one")
	known := next(t, w, nil, has("web", 3))
	if st := w.Status(); st.Origin != discovery.FromStore || w.IsLoaded(known) {
		t.Errorf("with etcd: %+v, want live", st)
	}
	proctest.Eventually(t, "the file is written", func() bool { _, err := os.Stat(file); return err == nil })
	put(t, s, "/services/web/3", "h3:1")
	next(t, w, known, has("web", 4))
	stop() // writes the last one
	s.Kill()

	w, log, stop := onDisk(t, s.Addr(), file, "one")
	loaded := next(t, w, nil, has("web", 4))
	if e := loaded.Service("web").Endpoints[0]; e.Weight != 7 || e.Lease == 0 {
		t.Errorf("loaded: %+v, want weight 7 and its lease", e)
	}
	if st := w.Status(); !st.Ready || st.Origin != discovery.FromDisk || st.Proof.IsZero() || st.Services != 2 || !w.IsLoaded(loaded) {
		t.Errorf("without etcd: %+v, want ready, of the disk, with its age", st)
	}
	if n := log.Count("beginning with the snapshot on the disk"); n != 1 {
		t.Errorf("said %d times that it begins with the disk, want once", n)
	}
	s.Restart()
	live := next(t, w, loaded, has("web", 4))
	if w.IsLoaded(live) || live.Service("web") != loaded.Service("web") {
		t.Error("with etcd again: web is another, want the same pointer")
	}
	proctest.Eventually(t, "live and fresh", func() bool {
		st := w.Status()
		return st.Origin == discovery.FromStore && !st.Stale
	})
	if st := w.Status(); st.Resyncs != 0 {
		t.Errorf("%d resyncs, want none: it was the first answer", st.Resyncs)
	}
	stop()
}

// A damaged file gives way to the one before; one of another store, or both
// damaged, to nothing.
func TestDamagedFileGivesWayToTheOneBefore(t *testing.T) {
	s := etcdtest.Start(t)
	file := filepath.Join(t.TempDir(), "snapshot")
	for i := range 2 {
		put(t, s, fmt.Sprintf("/services/web/%d", i), "h:1")
		w, _, stop := onDisk(t, s.Addr(), file, "one")
		next(t, w, nil, has("web", i+1))
		proctest.Eventually(t, "live", func() bool { return !w.IsLoaded(w.Snapshot()) })
		stop()
	}
	s.Kill()
	nothing := func(file, origin string) {
		t.Helper()
		w, log, stop := onDisk(t, s.Addr(), file, origin)
		defer stop()
		proctest.Eventually(t, "an error of etcd", func() bool { return w.Status().Err != "" })
		if st := w.Status(); st.Ready || st.Origin != discovery.FromNowhere {
			t.Errorf("status %+v, want nothing known", st)
		}
		if n := log.Count("snapshot on the disk is not used"); n != 2 {
			t.Errorf("said %d times that a file is not used, want 2", n)
		}
	}
	nothing(file, "another")

	damage := func(path string, how func([]byte) []byte) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, how(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(file, func(text []byte) []byte { return text[:len(text)/2] })
	w, _, stop := onDisk(t, s.Addr(), file, "one")
	next(t, w, nil, has("web", 1)) // of the one before
	stop()
	damage(file+".1", func(text []byte) []byte { // as readable as before
		return bytes.Replace(text, []byte("h:1"), []byte("h:2"), 1)
	})
	nothing(file, "one")
}

func TestDiskThatCannotBeWritten(t *testing.T) {
	s := etcdtest.Start(t)
	put(t, s, "/services/web/1", "h:1")
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w, log, _ := onDisk(t, s.Addr(), filepath.Join(blocked, "snapshot"), "one")
	next(t, w, nil, has("web", 1))
	proctest.Eventually(t, "it is said", func() bool { return log.Count("can't be kept on the disk") == 1 })
}
