package sidekick

import (
	"context"
	"sync"
	"time"

	"muster/backends"
)

// A share is one sidekick's part in the lease of a [Group], which holds it and
// gives it back.
type share struct {
	lease  Lease
	lost   chan struct{}     // slot of one
	former map[string]string // of the sidekick before, which this one takes the place of

	once  sync.Once
	ended chan struct{}
	kept  bool // what is announced was left to the next one; to be read behind Run
}

func newShare(lease Lease, former map[string]string) *share {
	return &share{lease: lease, lost: make(chan struct{}, 1), former: former, ended: make(chan struct{})}
}

// Run waits until ctx ends or the sidekick has left.
func (s *share) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.ended:
	}
	return nil
}

func (s *share) Write(ctx context.Context, put []backends.KV, del []string) error {
	return s.lease.Write(ctx, put, del)
}

func (s *share) Lost() <-chan struct{} { return s.lost }

// Revoke leaves the lease to the others.
func (s *share) Revoke(context.Context) error {
	s.once.Do(func() { close(s.ended) })
	return nil
}

func (s *share) ID() int64 { return s.lease.ID() }

// Keep leaves the keys to the next sidekick, of this process or another.
func (s *share) Keep(context.Context) error {
	s.once.Do(func() { s.kept = true; close(s.ended) })
	return nil
}

func (s *share) Former(key string) (value string, ok bool) {
	if value, ok = s.former[key]; ok {
		return value, true
	}
	if lease, ok := s.lease.(keeping); ok {
		return lease.Former(key)
	}
	return "", false
}

func (s *share) Progress() time.Time {
	if lease, ok := s.lease.(progressing); ok {
		return lease.Progress()
	}
	return time.Now()
}

func (s *share) Renewed() time.Time {
	if lease, ok := s.lease.(renewing); ok {
		return lease.Renewed()
	}
	return time.Time{}
}
