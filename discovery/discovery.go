// Package discovery follows a store and keeps the newest [catalog.Snapshot] of
// its services: the whole way from keys to services, with one goroutine that
// takes changes in and a slot that holds the newest.
//
//	backends.Store ──Feed──> Watcher.Run ──Apply──> Snapshot <── Next, Status
//
// Readers never wait for each other: [Watcher.Next] hands out the newest
// snapshot and skips those between. When the store is away the last snapshot
// serves for ever, and [Watcher.Status] says how old the last proof is that it
// is still true.
package discovery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"muster/backends"
	"muster/catalog"
)

// A Config says what a Watcher follows.
type Config struct {
	Store  backends.Store
	Prefix string       // of the services; empty means [catalog.DefaultPrefix]
	Log    *slog.Logger // nil means slog.Default()
}

// StaleAfter is how long the store may give no sign of life before what is
// known counts as stale. It says something at least every second while it
// answers, and notices within 1.5 s when it does not.
const StaleAfter = 3 * time.Second

// A Watcher keeps the newest snapshot of a store's services.
type Watcher struct {
	cfg Config

	mu       sync.Mutex // guards what follows
	snapshot *catalog.Snapshot
	revision int64 // of the last Change, also one without news
	ready    bool
	newer    chan struct{} // closed when snapshot is replaced
	proof    time.Time     // when the store said last that snapshot is true; zero: never
	err      error         // what the store said since then, or nil
	errSince time.Time
	errors   uint64 // breaks
	resyncs  uint64 // Full Changes after the first
	changes  uint64 // Changes that held news
}

// A Status is what a Watcher knows and how fresh that is.
type Status struct {
	Ready    bool      `json:"ready"`    // the store has answered once
	Stale    bool      `json:"stale"`    // no proof of freshness for StaleAfter
	Revision int64     `json:"revision"` // of the store, when it answered last
	Proof    time.Time `json:"proof"`    // the last sign of life of the store; zero: never
	Services int       `json:"services"` // known by name
	Bad      []Bad     `json:"bad,omitempty"`
	Err      string    `json:"err,omitempty"` // the trouble the store has now
	Errors   uint64    `json:"errors"`        // breaks so far
	Resyncs  uint64    `json:"resyncs"`       // times the store sent everything again
	Changes  uint64    `json:"changes"`       // that held news
}

// A Bad is an entry of the store that can't be read.
type Bad struct {
	Key   string `json:"key"`
	Value string `json:"value"` // its first 100 bytes
	Err   string `json:"err"`
	Kept  bool   `json:"kept"` // its last good form is in use
}

// New returns a Watcher of cfg. It knows nothing until Run.
func New(cfg Config) *Watcher {
	if cfg.Prefix == "" {
		cfg.Prefix = catalog.DefaultPrefix
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Watcher{cfg: cfg, snapshot: catalog.New(cfg.Prefix), newer: make(chan struct{})}
}

// Run follows the store until ctx ends, and returns its error.
func (w *Watcher) Run(ctx context.Context) error {
	feed := backends.NewFeed(ctx, w.cfg.Store, w.Snapshot().Prefixes()...)
	defer feed.Close()
	for {
		c, err := feed.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == backends.ErrClosed:
			return err
		case err != nil:
			w.trouble(err)
		default:
			w.apply(c)
		}
	}
}

// apply takes one change in. A Change with nothing in it is proof that the
// snapshot is true; it makes no new one, but the revision moves with the next.
func (w *Watcher) apply(c backends.Change) {
	old := w.Snapshot()
	next := old
	if c.Full || len(c.Put)+len(c.Deleted) > 0 {
		next = old.Apply(c)
		w.logBad(old, next)
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		w.cfg.Log.Info("store is back", "away", now.Sub(w.errSince).Round(time.Millisecond), "revision", c.Revision)
		w.err = nil
	}
	w.proof, w.revision = now, c.Revision
	if next == old {
		return
	}
	w.changes++
	if c.Full && w.ready {
		w.resyncs++
	}
	if !w.ready {
		w.cfg.Log.Info("first snapshot", "services", count(next), "revision", next.Revision)
	}
	w.snapshot, w.ready = next, true
	close(w.newer)
	w.newer = make(chan struct{})
}

func count(s *catalog.Snapshot) (n int) {
	for range s.All() {
		n++
	}
	return n
}

// trouble remembers what the store says, and logs when it starts.
func (w *Watcher) trouble(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.errSince = time.Now()
		w.cfg.Log.Warn("store is away: serving what is known", "ready", w.ready, "revision", w.revision, "err", err)
	}
	w.err = err
	w.errors++
}

// logBad logs the entries that went bad or good between two snapshots.
func (w *Watcher) logBad(old, next *catalog.Snapshot) {
	for svc := range next.All() {
		before := old.Service(svc.Name)
		if before == svc {
			continue
		}
		was := make(map[string]string)
		if before != nil {
			for _, b := range before.Bad {
				was[b.Key] = b.Value
			}
		}
		for _, b := range svc.Bad {
			if value, ok := was[b.Key]; !ok || value != b.Value {
				w.cfg.Log.Warn("entry can't be read", "key", b.Key, "value", short(b.Value), "kept", b.Kept, "err", b.Err)
			}
			delete(was, b.Key)
		}
		for key := range was {
			w.cfg.Log.Info("entry is good again, or gone", "key", key)
		}
	}
}

func short(text string) string {
	if len(text) > 100 {
		return text[:100] + "…"
	}
	return text
}

// Snapshot returns the newest snapshot; an empty one before the first.
func (w *Watcher) Snapshot() *catalog.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot
}

// Next waits until there is a snapshot of the store other than known, and
// returns the newest. A nil known asks for the first.
func (w *Watcher) Next(ctx context.Context, known *catalog.Snapshot) (*catalog.Snapshot, error) {
	for {
		w.mu.Lock()
		snapshot, ready, newer := w.snapshot, w.ready, w.newer
		w.mu.Unlock()
		if ready && snapshot != known {
			return snapshot, nil
		}
		select {
		case <-newer:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Status says what is known and how fresh it is.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	st := Status{Ready: w.ready, Revision: w.revision, Proof: w.proof, Stale: time.Since(w.proof) > StaleAfter, Errors: w.errors, Resyncs: w.resyncs, Changes: w.changes}
	snapshot := w.snapshot
	if w.err != nil {
		st.Err = w.err.Error()
	}
	w.mu.Unlock()
	st.Services = count(snapshot)
	for b := range snapshot.Bad() {
		st.Bad = append(st.Bad, Bad{b.Key, short(b.Value), b.Err.Error(), b.Kept})
	}
	return st
}
