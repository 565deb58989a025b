package sidekick

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"muster/backends"
	"muster/catalog"
)

// A wish is what the store shall have of the app, or has.
type wish int

const (
	absent    wish = iota
	announced      // both keys
	draining       // metadata alone, which say so
	unknown        // of what was written: nobody can tell
)

const (
	writeTimeout = 5 * time.Second // of one attempt; it may have to try several members
	maxBackoff   = time.Second     // between two attempts
)

// keys are what is written, and where.
type keys struct {
	plain, meta string
	metadata    catalog.Announcement // Started once it was announced
}

func newKeys(c Config) keys {
	at := "/" + c.Service + "/" + c.ID
	return keys{plain: c.Prefix + at, meta: c.Prefix + ".meta" + at, metadata: c.announcement()}
}

// change is the Txn that makes w true.
func (k *keys) change(w wish) (put []backends.KV, del []string) {
	a := k.metadata
	switch w {
	case announced:
		return []backends.KV{{Key: k.plain, Value: a.Addr}, {Key: k.meta, Value: a.Metadata()}}, nil
	case draining:
		a.State = catalog.Draining
		return []backends.KV{{Key: k.meta, Value: a.Metadata()}}, []string{k.plain}
	default:
		return nil, []string{k.plain, k.meta}
	}
}

// values are what announced writes, by key.
func (k *keys) values() map[string]string {
	values := make(map[string]string)
	put, _ := k.change(announced)
	for _, kv := range put {
		values[kv.Key] = kv.Value
	}
	return values
}

// converge tries once to make the store have what is wished, and reports
// whether it has. A refusal is logged when it starts and when it ends; that the
// store does not answer is the lease's to log.
func (s *Sidekick) converge(ctx context.Context) bool {
	if s.written == s.wish {
		return true
	}
	if s.wish == announced && s.keys.metadata.Started == nil {
		s.keys.metadata.Started = s.started()
	}
	attempt, cancel := context.WithTimeoutCause(ctx, writeTimeout, fmt.Errorf("no answer within %v", writeTimeout))
	defer cancel()
	put, del := s.keys.change(s.wish)
	err := s.cfg.Lease.Write(attempt, put, del)
	if err != nil {
		s.written = unknown // the store may have done it all the same
		s.countWrite(err)
		if ctx.Err() != nil {
			return false
		}
		s.attempts++
		if attempt.Err() == nil {
			s.refuse(err)
		}
		s.note(func(st *Status) { st.Trouble = err.Error() })
		return false
	}
	if s.refused {
		s.log.Info("written at last", "key", s.keys.plain, "attempts", s.attempts)
	}
	s.attempts, s.refused, s.rival = 0, false, ""
	s.countWrite(nil)
	s.written = s.wish
	switch s.written {
	case announced:
		s.log.Info("announced", "key", s.keys.plain, "addr", s.cfg.Addr, "lease", fmt.Sprintf("%x", s.cfg.Lease.ID()), "reason", s.reason)
	case draining:
		s.log.Info("draining", "key", s.keys.plain, "reason", s.reason)
	case absent:
		level := slog.LevelInfo
		if s.status.State == Failing { // note alone changes it
			level = slog.LevelWarn
		}
		s.log.Log(ctx, level, "withdrawn", "key", s.keys.plain, "reason", s.reason)
	}
	s.note(func(st *Status) { st.Trouble, st.Announced = "", s.written == announced })
	return true
}

// A heldError is a [Lease]'s that did not write because another holds the key.
type heldError interface {
	error
	// Holder says who, for people.
	Holder() string
}

// refuse logs that the store answers and did not write: once, and again when
// another than before holds the key.
func (s *Sidekick) refuse(err error) {
	held, ok := errors.AsType[heldError](err)
	switch {
	case ok && held.Holder() != s.rival:
		s.rival = held.Holder()
		s.log.Warn("another holds the key, waiting until it is free (-takeover insists)", "key", s.keys.plain, "holder", s.rival, "reason", s.reason)
		s.mu.Lock()
		s.counts.Conflicts++
		s.mu.Unlock()
	case !ok && !s.refused:
		s.log.Warn("the store refuses, trying on", "key", s.keys.plain, "reason", s.reason, "err", err)
	}
	s.refused = true
}

func (s *Sidekick) countWrite(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.counts.WriteErrors++
		return
	}
	s.counts.Writes++
}

// backoff is the time before the next attempt. Half of it is chance, so that
// the sidekicks of a store that comes back don't all come at once.
func (s *Sidekick) backoff() time.Duration {
	limit := min(maxBackoff, 100*time.Millisecond<<min(s.attempts, 5))
	return limit/2 + rand.N(limit/2)
}

// settle tries for at most limit to make the store have what is wished, and
// reports whether it has.
func (s *Sidekick) settle(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !s.converge(ctx) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(s.backoff()):
		}
	}
	return true
}

// How long leaving waits for a store that does not answer: the lease runs out
// by itself.
const (
	withdrawLimit = 3 * time.Second
	forgetLimit   = 2 * time.Second
	revokeLimit   = 2 * time.Second
)

// LeaveLimit is how long leaving may take, at most: what it waits for the store,
// the drain, and the app, if it is the sidekick's.
func (c Config) LeaveLimit() time.Duration {
	d := c.withDefaults()
	limit := withdrawLimit + d.Drain + forgetLimit + revokeLimit
	if d.App != nil {
		limit += d.StopTimeout + time.Second
	}
	return limit
}

// keep leaves the announcement to the next process, if that is wished and there
// is one.
func (s *Sidekick) keep(ctx context.Context) bool {
	lease, ok := s.cfg.Lease.(keeping)
	if !s.cfg.Keep && !s.handOver.Load() || !ok || s.written == absent || s.wish != announced && !s.adopted {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, revokeLimit)
	defer cancel()
	_ = lease.Keep(ctx) // without an answer there is less of the TTL left
	s.note(func(st *Status) { st.State = Left })
	s.log.Info("left, still announced for the next one", "key", s.keys.plain)
	return true
}

// leave takes the announcement back and ends the app. Where the app still runs
// it drains first.
func (s *Sidekick) leave(ctx context.Context) {
	if s.keep(ctx) {
		return
	}
	s.note(func(st *Status) { st.State = Draining })
	var ended <-chan struct{} // nil: not ours
	if s.app != nil {
		ended = s.app.done
	}
	select {
	case <-ended:
		s.wish, s.reason = absent, "the app has ended"
		s.settle(ctx, withdrawLimit)
	default:
		if s.wish == announced && s.written != absent {
			s.wish, s.reason = draining, "leaving"
			s.settle(ctx, withdrawLimit)
			select {
			case <-ended:
			case <-time.After(s.cfg.Drain):
			}
		}
	}
	if s.app != nil {
		s.app.stop(s.cfg.StopTimeout)
	}
	s.wish = absent
	forgotten := s.settle(ctx, forgetLimit)
	if forgotten {
		ctx, cancel := context.WithTimeout(ctx, revokeLimit)
		defer cancel()
		_ = s.cfg.Lease.Revoke(ctx) // it is empty, and runs out by itself
	} else {
		s.log.Warn("the store does not answer: what is announced is gone when the lease has run out", "key", s.keys.plain)
	}
	s.note(func(st *Status) { st.State = Left })
	s.log.Info("left")
}
