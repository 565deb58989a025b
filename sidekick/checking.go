package sidekick

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A finding is a new health and what the last check said.
type finding struct {
	health  health
	reason  string
	current context.Context // ends when there is a newer finding: outdate
	outdate context.CancelFunc
}

// check tells Run of each new health until ctx ends.
func (s *Sidekick) check(ctx context.Context) {
	if len(s.checks) == 0 {
		s.news <- finding{health: passing, reason: "nothing is checked", current: ctx}
		return
	}
	last := finding{outdate: func() {}}
	defer func() { last.outdate() }()
	v := verdict{rise: s.cfg.Rise, fall: s.cfg.Fall, startPeriod: s.cfg.StartPeriod}
	if s.wasUp {
		v.startPeriod = 0
	}
	began := time.Now()
	defer s.checking.end()
	for {
		s.checking.begin()
		results, err := runChecks(ctx, s.checks, s.cfg.Timeout)
		if ctx.Err() != nil {
			return
		}
		changed := v.add(err == nil, time.Since(began))
		s.count(results, &v, changed)
		if changed {
			last.outdate()
			last = finding{health: v.health, reason: v.reason(err)}
			last.current, last.outdate = context.WithCancel(ctx)
			select {
			case <-s.news:
			default:
			}
			s.news <- last
		}
		s.checking.end()
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.pause(v.deciding())):
		}
	}
}

// reason says why the health is what it is. err is the last check's.
func (v *verdict) reason(err error) string {
	text := "check passes"
	if err != nil {
		text = err.Error()
	}
	switch {
	case v.penalty == 0:
		return text
	case v.health == passing:
		return fmt.Sprintf("%s %d times in a row", text, v.penalty)
	default:
		return fmt.Sprintf("%s (flapping: up again after %d passes)", text, v.penalty)
	}
}

// fastInterval is the time between two checks that are to decide.
const fastInterval = 250 * time.Millisecond

// pause is the time between two checks. Jitter of 10 % keeps sidekicks that
// started together from checking together.
func (s *Sidekick) pause(deciding bool) time.Duration {
	interval := s.cfg.Interval
	if deciding {
		interval = min(interval, fastInterval)
	}
	return time.Duration(float64(interval) * (0.9 + 0.2*rand.Float64()))
}
