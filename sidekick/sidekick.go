// Package sidekick announces one app in a store while it answers.
//
// A [Sidekick] checks its app; while the check passes it announces the app
// under a [Lease], and when it fails it withdraws. It may run the app too, and
// then both end together. The order of things:
//
//	check ──verdict──> wish ──one Txn under the lease──> /services/NAME/ID       host:port
//	(rise, fall)       (absent, announced, draining)     /services.meta/NAME/ID  metadata
//
// Nothing is written before the check has passed Rise times. What was written
// is written again after the lease was lost. Run leaves in one order: delete
// the plain key and say draining in the metadata, in one Txn; wait for Drain;
// end the app; delete the metadata; revoke the lease.
package sidekick

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"muster/backends"
)

// A Lease is what keys are written under: they are gone some time after the
// sidekick is. Its methods may be called at the same time.
type Lease interface {
	// Run gets the lease and renews it until ctx ends or Revoke, and gets a new
	// one when it is lost. It goes on trying while the store is away, and logs
	// when that starts and when it ends.
	Run(ctx context.Context) error
	// Write puts and deletes in one Txn, under the lease. It waits for lease and
	// store until ctx ends, and leaves alone what others hold.
	Write(ctx context.Context, put []backends.KV, del []string) error
	// Lost has a token when keys must be written again under a new lease.
	Lost() <-chan struct{}
	// Revoke ends the lease, and with it every key that is under it.
	Revoke(ctx context.Context) error
	// ID is the lease's number, 0 while there is none.
	ID() int64
}

// The states of a [Status].
const (
	Starting = "starting" // it has neither passed nor failed often enough
	Up       = "up"
	Failing  = "failing"
	Draining = "draining"
	Left     = "left"
)

// A Status is what the sidekick is doing.
type Status struct {
	State     string
	Reason    string // why it is Failing
	Since     time.Time
	Announced bool   // the store has the announcement, as far as is known
	Trouble   string // why the store has not what it should have; empty: it has
}

// String is the status in one line, for people.
func (st Status) String() string {
	if why := cmp.Or(st.Trouble, st.Reason); why != "" {
		return st.State + ": " + strings.ReplaceAll(why, "\n", " ")
	}
	return st.State
}

// A Sidekick announces one app. [New] makes one.
type Sidekick struct {
	cfg    Config
	log    *slog.Logger
	checks []check
	keys   keys
	app    *app         // nil: not ours
	news   chan finding // from the checks: the newest, if it was not taken yet

	children *children
	beats    beats

	checking, serving pulse                     // of the two loops
	began             atomic.Pointer[time.Time] // Run
	leaving           atomic.Bool
	handOver          atomic.Bool // leave as with Keep

	wasUp   bool // the process before left an announcement; see adopt
	adopted bool // and nothing was found since; serve's own

	// Run's own.
	wish, written wish
	reason        string // of the wish, for the log
	leaseErr      error  // of the lease's Run
	attempts      int    // that failed since the last Txn that did not
	refused       bool   // and it was logged why the store did not write
	rival         string // who holds the key, as was logged

	mu      sync.Mutex // guards what follows
	status  Status
	results []result // of the last round
	rise    int      // that is needed now
	counts  Counts
}

// New checks c and returns one error for all that is wrong with it.
func New(c Config) (*Sidekick, error) {
	c = c.withDefaults()
	s := &Sidekick{
		cfg:      c,
		log:      c.Log.With("service", c.Service, "endpoint", c.ID),
		keys:     newKeys(c),
		news:     make(chan finding, 1),
		children: cmp.Or(c.children, newChildren()),
		status:   Status{State: Starting, Since: time.Now()},
		rise:     c.Rise,
	}
	var err error
	s.checks, err = c.check(scene{addr: c.Addr, docker: c.DockerHost, children: s.children, beats: &s.beats})
	if err := errors.Join(err, c.checkLease()); err != nil {
		return nil, err
	}
	if c.App != nil {
		s.app = &app{cmd: c.App, children: s.children, done: make(chan struct{})}
	}
	return s, nil
}

// Run starts the app, if it is the sidekick's, and announces it while the check
// passes, until ctx ends; then it leaves. It returns when everything it started
// has ended, the app too. The error is the app's (an [exec.ExitError] is in the
// chain), the lease's or both. Run can be called once.
func (s *Sidekick) Run(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	now := time.Now()
	s.began.Store(&now)
	s.adopt()
	serving, end := context.WithCancel(ctx)
	defer end()
	var wg sync.WaitGroup
	if s.app != nil {
		if err := s.app.start(); err != nil {
			return err
		}
		wg.Go(func() { s.app.wait(); end() })
	}
	// The lease outlives ctx: leaving needs it.
	leasing, release := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() {
		if s.leaseErr = s.cfg.Lease.Run(leasing); s.leaseErr != nil {
			end()
		}
	})
	wg.Go(func() { s.check(serving) })

	s.serve(serving)
	s.leaving.Store(true)
	s.leave(leasing)
	release()
	wg.Wait()

	var errs []error
	if s.app != nil {
		errs = append(errs, s.app.err)
	}
	if s.leaseErr != nil {
		errs = append(errs, fmt.Errorf("lease: %w", s.leaseErr))
	}
	return errors.Join(errs...)
}

// Status is what the sidekick is doing now.
func (s *Sidekick) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Signal hands sig to the app, if it is the sidekick's and runs.
func (s *Sidekick) Signal(sig os.Signal) {
	if s.app != nil {
		s.app.signal(sig)
	}
}

// Kill kills the app and its process group, if it is the sidekick's and runs;
// Run then comes to its end.
func (s *Sidekick) Kill() {
	if s.app != nil {
		s.app.kill()
	}
}

// serve makes the store have what the checks say until ctx ends.
func (s *Sidekick) serve(ctx context.Context) {
	var retry <-chan time.Time
	current := ctx
	defer s.serving.end()
	for {
		s.serving.end()
		fresh := false // a new health, of which nothing was logged yet
		select {
		case <-ctx.Done():
			return
		case f := <-s.news:
			s.serving.begin()
			s.take(f)
			current, fresh = f.current, true
		case <-s.cfg.Lease.Lost():
			s.serving.begin()
			s.lost()
		case <-retry:
			s.serving.begin()
		}
		retry = nil
		if !s.converge(current) {
			if fresh && !s.refused && current.Err() == nil {
				s.log.Warn("the store does not have it yet", "state", s.Status().State, "reason", s.reason)
			}
			retry = time.After(s.backoff())
		}
	}
}

// lost has everything written again that was under the old lease.
func (s *Sidekick) lost() {
	if s.wish != announced || s.written == absent {
		return
	}
	s.written, s.reason = unknown, "lease lost"
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.LeasesLost++
}

// take turns what the checks found into a wish.
func (s *Sidekick) take(f finding) {
	s.adopted = false
	switch f.health {
	case passing:
		s.wish, s.reason = announced, f.reason
		s.note(func(st *Status) { st.State, st.Reason = Up, "" })
	case failing:
		s.wish, s.reason = absent, f.reason
		s.note(func(st *Status) { st.State, st.Reason = Failing, s.reason })
		if s.written == absent {
			s.log.Warn("not announced", "reason", s.reason)
		}
	}
}

// note changes the Status and tells Notify of it.
func (s *Sidekick) note(change func(*Status)) {
	s.mu.Lock()
	before := s.status
	change(&s.status)
	if s.status.State != before.State {
		s.status.Since = time.Now()
	}
	after := s.status
	s.mu.Unlock()
	if s.cfg.Notify != nil && after != before {
		s.cfg.Notify(after)
	}
}
