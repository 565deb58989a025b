package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// ErrRevoked is what Write returns after Revoke.
var ErrRevoked = errors.New("the lease was revoked")

// A Lease holds one etcd lease for as long as Run runs, and writes keys under
// it. Its ID outlives an outage: only when etcd says that it is gone a new one
// is granted, and Lost tells that the keys went with the old one.
type Lease struct {
	// TakeOver lets Write take keys from whoever holds them. Set it before Run.
	TakeOver bool

	store *Store
	ttl   time.Duration
	lost  chan struct{} // slot of one
	wake  chan struct{} // slot of one: Run has something to do at once

	mu      sync.Mutex // guards what follows
	id      int64      // 0: none
	mine    map[int64]bool
	revoked bool
	trouble error         // why there is no lease, or why it is not renewed
	changed chan struct{} // closed, and replaced, when id or revoked change
}

// Lease returns a lease of ttl, at least one second; zero means 15 s. Nothing
// happens before Run.
func (s *Store) Lease(ttl time.Duration) *Lease {
	if ttl == 0 {
		ttl = 15 * time.Second
	}
	return &Lease{
		store:   s,
		ttl:     max(ttl, time.Second),
		lost:    make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		mine:    make(map[int64]bool),
		changed: make(chan struct{}),
	}
}

// ID is the lease's ID, or 0 while there is none.
func (l *Lease) ID() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id
}

// Lost is signalled when a new lease was granted in place of one that is gone,
// and keys must be written again.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Run grants the lease as soon as etcd can be reached and renews it every third
// of its TTL, on whichever member answers. It returns when ctx ends or after
// Revoke, and leaves the lease to expire: what hangs on it lives for up to TTL.
func (l *Lease) Run(ctx context.Context) error {
	h := holder{lease: l, ttl: l.ttl}
	defer h.hangUp()
	for {
		wait, err := h.tick(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrRevoked) {
			return nil
		}
		h.report(err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// Revoke gives the lease back, which deletes the keys that hang on it, and ends
// Run. It tries each member once; if none answers, the lease expires by itself.
func (l *Lease) Revoke(ctx context.Context) error {
	l.mu.Lock()
	id := l.id
	l.id, l.revoked = 0, true
	l.announceChange()
	l.mu.Unlock()
	signal(l.wake)
	if id == 0 {
		return nil
	}
	err := l.store.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := etcdserverpb.NewLeaseClient(conn).LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: id})
		return err
	})
	if is(err, rpctypes.ErrGRPCLeaseNotFound) {
		return nil
	}
	return err
}

// announceChange wakes whoever waits for id. l.mu is held.
func (l *Lease) announceChange() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// wait returns the lease's ID as soon as there is one.
func (l *Lease) wait(ctx context.Context) (int64, error) {
	for {
		l.mu.Lock()
		id, revoked, changed := l.id, l.revoked, l.changed
		l.mu.Unlock()
		switch {
		case revoked:
			return 0, ErrRevoked
		case id != 0:
			return id, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			l.mu.Lock()
			trouble := l.trouble
			l.mu.Unlock()
			if trouble == nil {
				trouble = errors.New("no lease yet")
			}
			return 0, ended(ctx, trouble)
		}
	}
}

// isMine reports whether id is or was this lease.
func (l *Lease) isMine(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mine[id]
}

// gone is called when etcd does not know id any more.
func (l *Lease) gone(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id {
		l.id = 0
		l.announceChange()
		signal(l.wake)
	}
}

// granted makes id the lease.
func (l *Lease) granted(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revoked {
		return
	}
	again := len(l.mine) > 0
	l.id = id
	l.mine[id] = true
	l.announceChange()
	if again {
		signal(l.lost)
	}
}

func signal(slot chan struct{}) {
	select {
	case slot <- struct{}{}:
	default:
	}
}

// A holder is what Run knows between two renewals.
type holder struct {
	lease    *Lease
	ttl      time.Duration // as etcd granted it
	at       int           // the member to renew at
	line     *keepAlive    // nil: none open
	failures int
	since    time.Time // of the first of these failures
}

// tick renews the lease, or grants one if there is none, and returns how long to
// wait before the next.
func (h *holder) tick(ctx context.Context) (wait time.Duration, err error) {
	l := h.lease
	l.mu.Lock()
	id, revoked := l.id, l.revoked
	l.mu.Unlock()
	switch {
	case revoked:
		return 0, ErrRevoked
	case id == 0:
		err = h.grant(ctx)
	default:
		err = h.renew(ctx, id)
		if errors.Is(err, errLeaseGone) {
			l.store.log.Warn("lease is gone, granting another", "store", "etcd", "lease", id)
			l.gone(id)
			err = h.grant(ctx)
		}
	}
	if err != nil {
		return retryAfter(&h.failures), err
	}
	// Up to a tenth earlier, so that many announcers spread.
	third := h.ttl / 3
	return third - rand.N(third/10+1), nil
}

// report tells Write why it waits, and the log when trouble starts and ends.
func (h *holder) report(err error) {
	l := h.lease
	l.mu.Lock()
	before := l.trouble
	l.trouble = err
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		h.since = time.Now()
		l.store.log.Warn("lease is not renewed", "store", "etcd", "lease", l.ID(), "err", err)
	case err == nil:
		h.failures = 0
		if before != nil {
			l.store.log.Info("lease is renewed again", "store", "etcd", "lease", l.ID(), "after", time.Since(h.since).Round(time.Millisecond))
		}
	}
}

func (h *holder) grant(ctx context.Context) error {
	seconds := int64((h.lease.ttl + time.Second - 1) / time.Second)
	return h.lease.store.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := etcdserverpb.NewLeaseClient(conn).LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{TTL: seconds})
		if err != nil {
			return err
		}
		h.ttl = time.Duration(resp.TTL) * time.Second
		h.lease.granted(resp.ID)
		return nil
	})
}

// retryAfter is how long to wait after one more failure: 50 ms, doubled up to a
// second, and somewhat less by chance so that many do not come at once.
func retryAfter(failures *int) time.Duration {
	d := min(time.Second, 50*time.Millisecond<<min(*failures, 5))
	*failures++
	return d - rand.N(d/4)
}
