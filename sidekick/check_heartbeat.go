package sidekick

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// beats remembers the app's last one.
type beats struct {
	mu   sync.Mutex
	last time.Time
	n    int64
}

// Beat is the app's word that it lives, for the heartbeat: check.
func (s *Sidekick) Beat() { s.beats.beat() }

func (b *beats) beat() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = time.Now()
	b.n++
}

func (b *beats) count() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// parseHeartbeat makes the check that passes while the last beat is younger than
// the text says.
func parseHeartbeat(text string, b *beats) (func(context.Context) error, error) {
	within, err := time.ParseDuration(text)
	if err != nil || within <= 0 {
		return nil, errors.New("want heartbeat:TIME, the longest between two beats, such as heartbeat:10s")
	}
	return func(context.Context) error {
		b.mu.Lock()
		last := b.last
		b.mu.Unlock()
		if last.IsZero() {
			return errors.New("no beat yet")
		}
		if age := time.Since(last); age > within {
			return fmt.Errorf("the last beat was %v ago: want one every %v", age.Round(time.Millisecond), within)
		}
		return nil
	}, nil
}
