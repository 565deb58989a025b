// Package discovery follows a store and keeps the newest [catalog.Snapshot] of
// its services: the whole way from keys to services, with one goroutine that
// takes changes in and a slot that holds the newest.
//
//	backends.Store ──Feed──> Watcher.Run ──guard──Apply──> Snapshot <── Next, Status
//	                                                          │
//	                                        the file of the next start (disk.go)
//
// A delete is clean when the endpoint was draining, or when the lease its key
// hung on lives: somebody meant it. Otherwise the key expired, which is believed
// too, but not of many endpoints at once, or of the last ones of a service: those
// stay while they answer their check (protect.go).
//
// Readers never wait for each other: [Watcher.Next] hands out the newest
// snapshot and skips those between. When the store is away the last snapshot
// serves for ever, and [Watcher.Status] says how old the last proof is that it
// is still true.
package discovery

import (
	"context"
	"log/slog"
	"slices"
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

	// Probe runs the check that an endpoint declares, or connects to one that
	// declares none. It is asked about endpoints whose keys expired when many
	// do at once, see protect.go. Nil means that every expiry is believed.
	Probe func(context.Context, catalog.Endpoint) error

	// LeaseAlive reports whether the store still has a lease. If so, somebody
	// deleted the key and meant it. Nil means that nobody knows.
	LeaseAlive func(ctx context.Context, id int64) (bool, error)

	// Disk is the file that keeps the newest snapshot for the next start, see
	// disk.go; FILE.1 beside it is the one before. Empty means none.
	Disk string
	// Origin is which store that is, in words without secrets: the file of
	// another one is not loaded.
	Origin string
}

// StaleAfter is how long the store may give no sign of life before what is
// known counts as stale. It says something at least every second while it
// answers, and notices within 1.5 s when it does not.
const StaleAfter = 3 * time.Second

// A Watcher keeps the newest snapshot of a store's services.
type Watcher struct {
	cfg    Config
	guard  guard     // Run's own
	verify *verifier // asks about what guard holds

	mu       sync.Mutex // guards what follows
	snapshot *catalog.Snapshot
	loaded   *catalog.Snapshot // from the disk, until the store has answered
	revision int64             // of the last Change, also one without news
	ready    bool              // there is a snapshot
	live     bool              // and the store has answered once
	protect  Protection
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
	Ready    bool      `json:"ready"`    // something is known: the store has answered once, or the disk has
	Origin   string    `json:"origin"`   // of what is known: none, disk or live
	Stale    bool      `json:"stale"`    // no proof of freshness for StaleAfter
	Revision int64     `json:"revision"` // of the store, when it answered last
	Proof    time.Time `json:"proof"`    // the last sign of life of the store; zero: never
	Services int       `json:"services"` // known by name
	Bad      []Bad     `json:"bad,omitempty"`
	Err      string    `json:"err,omitempty"` // the trouble the store has now
	Errors   uint64    `json:"errors"`        // breaks so far
	Resyncs  uint64    `json:"resyncs"`       // times the store sent everything again
	Changes  uint64    `json:"changes"`       // that held news

	Protection Protection `json:"protection"`
}

// A Protection says whether expiries are believed.
type Protection struct {
	Off      bool      `json:"off,omitempty"`      // they always are: /muster/protect says off
	Held     int       `json:"held"`               // endpoints that expired, and stay while they answer
	Services []string  `json:"services,omitempty"` // theirs
	Since    time.Time `json:"since,omitzero"`     // when the first of them expired
}

// Where what is known came from, in a [Status].
const (
	FromNowhere = "none"
	FromDisk    = "disk"
	FromStore   = "live"
)

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
	return &Watcher{
		cfg:      cfg,
		guard:    guard{on: cfg.Probe != nil, held: make(map[catalog.Place]*hold)},
		verify:   newVerifier(),
		snapshot: catalog.New(cfg.Prefix),
		newer:    make(chan struct{}),
	}
}

// Run loads what the disk has, follows the store until ctx ends, and returns
// its error.
func (w *Watcher) Run(ctx context.Context) error {
	w.load()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before wg.Wait
	if w.cfg.Disk != "" {
		wg.Go(func() { w.keepOnDisk(ctx) })
	}
	switched := make(chan bool)
	if w.cfg.Probe != nil {
		wg.Go(func() { w.verify.run(ctx, w) })
		wg.Go(func() { w.followSwitch(ctx, switched) })
	}
	feed := backends.NewFeed(ctx, w.cfg.Store, w.Snapshot().Prefixes()...)
	defer feed.Close()
	news := make(chan item)
	wg.Go(func() { feedInto(ctx, feed, news) })
	for {
		select {
		case i := <-news:
			switch {
			case i.err == backends.ErrClosed:
				return i.err
			case i.err != nil:
				w.trouble(i.err)
			default:
				w.apply(i.change)
			}
		case <-w.verify.done:
			w.settle(w.guard.take(w.verify.take(), w.cfg.Log))
		case on := <-switched:
			w.setProtection(on)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// An item is what a Feed's Next returned.
type item struct {
	change backends.Change
	err    error
}

// takeEvery is how soon after one Change the next is taken. The first after a
// quiet time comes at once; in a storm each holds all that has come since, and
// costs one snapshot and one plan.
const takeEvery = 10 * time.Millisecond

func feedInto(ctx context.Context, feed *backends.Feed, news chan<- item) {
	for {
		c, err := feed.Next(ctx)
		if ctx.Err() != nil {
			return
		}
		select {
		case news <- item{c, err}:
		case <-ctx.Done():
			return
		}
		if err == backends.ErrClosed {
			return
		}
		select {
		case <-time.After(takeEvery):
		case <-ctx.Done():
			return
		}
	}
}

// apply takes one change of the store in. A Change with nothing in it is proof
// that the snapshot is true; it makes no new one, but the revision moves with
// the next.
func (w *Watcher) apply(c backends.Change) {
	news := c.Full || len(c.Put)+len(c.Deleted) > 0
	now := time.Now()
	old := w.Snapshot()
	next, held := old, false
	if news {
		var filtered backends.Change
		filtered, held = w.guard.filter(old, c, now)
		next = old.Apply(filtered)
		w.logBad(old, next)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		w.cfg.Log.Info("store is back", "away", now.Sub(w.errSince).Round(time.Millisecond), "revision", c.Revision)
		w.err = nil
	}
	w.proof, w.revision = now, c.Revision
	if !news {
		return
	}
	w.changes++
	switch {
	case !w.live:
		w.cfg.Log.Info("first snapshot", "services", count(next), "revision", next.Revision)
		w.live, w.loaded = true, nil
	case c.Full:
		w.resyncs++
	}
	w.publish(next)
	if held {
		w.showHolds(now)
	}
}

// settle takes in what the verifier found.
func (w *Watcher) settle(c backends.Change, changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(c.Put)+len(c.Deleted) > 0 {
		c.Revision = w.revision
		w.publish(w.snapshot.Apply(c))
	}
	if changed {
		w.showHolds(time.Now())
	}
}

// publish makes s the newest snapshot. w.mu is held.
func (w *Watcher) publish(s *catalog.Snapshot) {
	w.snapshot, w.ready = s, true
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
		text := "store is away: serving what is known"
		if !w.ready {
			text = "store is away: nothing is known yet"
		}
		w.cfg.Log.Warn(text, "ready", w.ready, "revision", w.revision, "err", err)
	}
	w.err = err
	w.errors++
}

// logBad logs the entries that went bad or good between two snapshots.
func (w *Watcher) logBad(old, next *catalog.Snapshot) {
	changed, ok := next.Since(old)
	if !ok {
		changed = slices.Collect(next.All())
	}
	for _, svc := range changed {
		switch before := old.Service(svc.Name); before {
		case svc:
		case nil:
			w.logBadOf(nil, svc.Bad)
		default:
			w.logBadOf(before.Bad, svc.Bad)
		}
	}
	w.logBadOf(old.Stray(), next.Stray())
}

func (w *Watcher) logBadOf(old, next []catalog.Bad) {
	if len(old)+len(next) == 0 || len(old) == len(next) && &old[0] == &next[0] {
		return
	}
	was := make(map[string]string)
	for _, b := range old {
		was[b.Key] = b.Value
	}
	for _, b := range next {
		if value, ok := was[b.Key]; !ok || value != b.Value {
			w.cfg.Log.Warn("entry can't be read", "key", b.Key, "value", short(b.Value), "kept", b.Kept, "err", b.Err)
		}
		delete(was, b.Key)
	}
	for key := range was {
		w.cfg.Log.Info("entry is good again, or gone", "key", key)
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

// IsLoaded reports whether s was read from the disk and the store has not
// answered yet.
func (w *Watcher) IsLoaded(s *catalog.Snapshot) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return s != nil && s == w.loaded
}

// Status says what is known and how fresh it is.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	st := Status{Ready: w.ready, Origin: FromNowhere, Protection: w.protect, Revision: w.revision, Proof: w.proof, Stale: time.Since(w.proof) > StaleAfter, Errors: w.errors, Resyncs: w.resyncs, Changes: w.changes}
	snapshot := w.snapshot
	switch {
	case w.live:
		st.Origin = FromStore
	case w.ready:
		st.Origin = FromDisk
	}
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
