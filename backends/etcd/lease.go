package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// ErrRevoked is what Write returns after Revoke or Keep.
var ErrRevoked = errors.New("the lease was given up")

// afterOutage is the most that many announcers wait, each by chance, before
// they ask an etcd that came back for a lease: it has enough to do.
const afterOutage = 500 * time.Millisecond

// A Lease holds one etcd lease for as long as Run runs, and writes keys under
// it. Its ID outlives an outage: nothing is written until etcd has renewed it,
// and only when etcd says that it is gone a new one is granted; Lost tells that
// the keys went with the old one. While Run runs, what others do to the keys is
// put right at once.
type Lease struct {
	// TakeOver lets Write take keys from whoever holds them. Set it before Run.
	TakeOver bool

	// File remembers the lease and its keys, so that the next process takes both
	// up and nobody sees a change. One process at a time may use it. Empty means
	// none. Set it before Run.
	File string

	store *Store
	ttl   time.Duration
	claim time.Duration // what the process before wrote and this one did not is taken back after that
	lost  chan struct{} // slot of one
	wake  chan struct{} // slot of one: Run has something to do at once
	file  leaseFile

	// repairing is held while what others did is put right. Write waits for it,
	// so that what it takes back does not come again.
	repairing chan struct{}

	mu      sync.Mutex // guards what follows
	id      int64      // 0: none
	proven  bool       // etcd has granted or renewed it, and nothing failed since
	mine    map[int64]bool
	ended   bool
	trouble error         // why there is no lease, or why it is not renewed
	changed chan struct{} // closed, and replaced, when id, proven or ended change
	turned  time.Time     // when the loop came round last
	renewed time.Time     // when etcd granted or renewed it last
	wishes  wishes
}

// Lease returns a lease of ttl, at least one second; zero means 15 s. Nothing
// happens before Run.
func (s *Store) Lease(ttl time.Duration) *Lease {
	if ttl == 0 {
		ttl = 15 * time.Second
	}
	return &Lease{
		store:     s,
		claim:     claimWithin,
		ttl:       max(ttl, time.Second),
		lost:      make(chan struct{}, 1),
		wake:      make(chan struct{}, 1),
		repairing: make(chan struct{}, 1),
		mine:      make(map[int64]bool),
		changed:   make(chan struct{}),
		wishes:    newWishes(),
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

// Progress is when the loop that renews came round last, whatever etcd said; an
// etcd that is away does not stop it. Zero: Run has not begun. While it runs and
// is well it is never older than a third of the TTL and a few seconds.
func (l *Lease) Progress() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turned
}

// Renewed is when etcd granted or renewed the lease last; zero: never.
func (l *Lease) Renewed() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewed
}

// Run grants the lease as soon as etcd can be reached and renews it every third
// of its TTL, on whichever member answers. It returns when ctx ends or after
// Revoke or Keep, and leaves the lease to expire: what hangs on it lives for up
// to TTL. An error means that File can't be used.
func (l *Lease) Run(ctx context.Context) error {
	if err := l.openFile(); err != nil {
		return err
	}
	defer l.file.unlock()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before wg.Wait
	wg.Go(func() { l.keepKeys(ctx) })
	wg.Go(func() { l.dropFormer(ctx) })
	h := newHolder(l)
	defer h.hangUp()
	for {
		wait, err := h.tick(ctx)
		if ctx.Err() != nil || errors.Is(err, ErrRevoked) {
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
	id := l.end(true)
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

// Keep ends Run and leaves the lease and its keys to the next process with the
// same File, which has a whole TTL to come: it is renewed once more.
func (l *Lease) Keep(ctx context.Context) error {
	id := l.end(false)
	if id == 0 {
		return nil
	}
	return l.store.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := etcdserverpb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		_, err = renewOn(stream, id)
		return err
	})
}

// end makes Run return. forget removes what File says.
func (l *Lease) end(forget bool) (id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0
	}
	id, l.ended = l.id, true
	if forget {
		l.id = 0
		l.file.remove(l.File)
	}
	l.announceChange()
	signal(l.wake)
	return id
}

// announceChange wakes whoever waits for id. l.mu is held.
func (l *Lease) announceChange() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// wait returns the lease's ID as soon as etcd is known to have it, or at once
// if it is not needed.
func (l *Lease) wait(ctx context.Context, needed bool) (int64, error) {
	for {
		l.mu.Lock()
		id, proven, ended, changed := l.id, l.proven, l.ended, l.changed
		l.mu.Unlock()
		switch {
		case ended:
			return 0, ErrRevoked
		case id != 0 && proven, !needed:
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
			return 0, endedBy(ctx, trouble)
		}
	}
}

// gone is called when etcd does not know id any more.
func (l *Lease) gone(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id && !l.ended {
		l.store.log.Warn("lease is gone, granting another", "store", "etcd", "lease", hex(id))
		l.id, l.proven = 0, false
		l.announceChange()
		signal(l.wake)
	}
}

// granted makes id the lease.
func (l *Lease) granted(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	again := len(l.mine) > 0
	l.id, l.proven, l.renewed = id, true, time.Now()
	l.mine[id] = true
	l.announceChange()
	l.saveFile()
	if again {
		signal(l.lost)
	}
}

// isRenewed says that etcd still has id.
func (l *Lease) isRenewed(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id {
		l.renewed = time.Now()
		if !l.proven {
			l.proven = true
			l.announceChange()
		}
	}
}

// hex is an ID as etcdctl prints it.
func hex(id int64) string { return fmt.Sprintf("%x", id) }

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
	lines    []*line       // by member
	at       int           // the member that renewed last
	failures int
	since    time.Time // of the first of these failures
}

func newHolder(l *Lease) *holder {
	h := &holder{lease: l, ttl: l.ttl, at: int(l.store.answering.Load())}
	for _, m := range l.store.members {
		h.lines = append(h.lines, &line{member: m})
	}
	return h
}

// tick renews the lease, or grants one if there is none, and returns how long to
// wait before the next.
func (h *holder) tick(ctx context.Context) (wait time.Duration, err error) {
	l := h.lease
	l.mu.Lock()
	id, ended := l.id, l.ended
	l.turned = time.Now()
	l.mu.Unlock()
	if ended {
		return 0, ErrRevoked
	}
	if id != 0 {
		if err = h.renew(ctx, id); err == nil {
			l.isRenewed(id)
		} else if errors.Is(err, errLeaseGone) {
			l.gone(id)
			id = 0
		}
	}
	if id == 0 {
		err = h.grant(ctx)
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
	if err != nil {
		l.proven = false
	}
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		h.since = time.Now()
		l.store.log.Warn("lease is not renewed", "store", "etcd", "lease", hex(l.ID()), "err", err)
	case err == nil:
		h.failures = 0
		if before != nil {
			l.store.log.Info("lease is renewed again", "store", "etcd", "lease", hex(l.ID()), "after", time.Since(h.since).Round(time.Millisecond))
		}
	}
}

func (h *holder) grant(ctx context.Context) error {
	l := h.lease
	l.mu.Lock()
	first := len(l.mine) == 0 && h.failures == 0
	l.mu.Unlock()
	if !first && !pause(ctx, rand.N(afterOutage)) {
		return ctx.Err()
	}
	seconds := int64((l.ttl + time.Second - 1) / time.Second)
	return l.store.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := etcdserverpb.NewLeaseClient(conn).LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{TTL: seconds})
		if err != nil {
			return err
		}
		h.ttl = time.Duration(resp.TTL) * time.Second
		l.granted(resp.ID)
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
