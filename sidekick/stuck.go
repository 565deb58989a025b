package sidekick

import (
	"fmt"
	"sync/atomic"
	"time"
)

// A pulse is a loop's: begun while it works, ended while it waits for news, which
// may take for ever.
type pulse struct{ begun atomic.Pointer[time.Time] }

func (p *pulse) begin() {
	now := time.Now()
	p.begun.Store(&now)
}

func (p *pulse) end() { p.begun.Store(nil) }

// working is how long the loop has been at work without a rest.
func (p *pulse) working() time.Duration {
	if begun := p.begun.Load(); begun != nil {
		return time.Since(*begun)
	}
	return 0
}

// grace is how much longer than planned a loop may be at work.
const grace = 10 * time.Second

// A progressing lease can tell that its loop is stuck.
type progressing interface {
	// Progress is when Run last came round, whether the store answered or not;
	// zero before the first time.
	Progress() time.Time
}

// Stuck says which part of a running sidekick no longer does its work: the
// checks, the writing of what they found, or the renewal of the lease (of a
// Lease that has a method Progress() time.Time, when it last came round). Nil
// means that all go on. A store that is away or an app that fails is no such
// case: a new sidekick could do no better.
func (s *Sidekick) Stuck() error {
	if d := s.checking.working(); d > s.cfg.Timeout+grace {
		return fmt.Errorf("the checks have not come back for %v", d.Round(time.Second))
	}
	if d := s.serving.working(); d > writeTimeout+grace {
		return fmt.Errorf("nothing has been written for %v", d.Round(time.Second))
	}
	began := s.began.Load()
	lease, ok := s.cfg.Lease.(progressing)
	if !ok || began == nil || s.leaving.Load() {
		return nil
	}
	at := lease.Progress()
	if at.IsZero() {
		at = *began
	}
	if d := time.Since(at); d > s.cfg.TTL {
		return fmt.Errorf("the lease's renewal has not come round for %v", d.Round(time.Second))
	}
	return nil
}
