package sidekick

import (
	"context"
	"time"

	"muster/catalog"
)

// A keeping lease can be left to the next process, with its keys.
type keeping interface {
	// Keep ends Run and leaves lease and keys in the store.
	Keep(ctx context.Context) error
	// Former is what the process before left under key.
	Former(key string) (value string, ok bool)
}

// adopt takes up what the process before left: it is announced until the checks
// say otherwise, and as it was up, there is no start period.
func (s *Sidekick) adopt() {
	lease, ok := s.cfg.Lease.(keeping)
	if !ok {
		return
	}
	if _, ok := lease.Former(s.keys.plain); ok {
		s.wasUp, s.adopted, s.written = true, true, unknown
	}
}

// started is when the app was announced first, by the process before if there
// was one: so that its metadata don't change.
func (s *Sidekick) started() *time.Time {
	if lease, ok := s.cfg.Lease.(keeping); ok {
		if text, ok := lease.Former(s.keys.meta); ok {
			if m, err := catalog.ParseMetadata(text); err == nil && m.Started != nil {
				return m.Started
			}
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	return &now
}
