package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"muster/internal/storeaddr"
)

var errLeaseGone = errors.New("lease not found")

// renew renews id on one member. When that one has failed, or is silent for
// half of the time it has, the next is asked as well, and whoever answers first
// counts: so a frozen member costs half a second at most, and not the lease. An
// answer may also be that the lease is gone.
func (h *holder) renew(ctx context.Context, id int64) error {
	within := max(250*time.Millisecond, min(time.Second, h.ttl/8))
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // hangs up on those that are still silent

	type answer struct {
		at  int
		ttl time.Duration
		err error
	}
	answers := make(chan answer, len(h.lines))
	asked := 0
	ask := func() {
		if asked == len(h.lines) {
			return
		}
		at := (h.at + asked) % len(h.lines)
		asked++
		wg.Go(func() {
			ttl, err := h.lines[at].renew(ctx, id, within)
			answers <- answer{at, ttl, err}
		})
	}
	ask()
	silence := time.NewTicker(within / 2)
	defer silence.Stop()
	var errs []error
	for len(errs) < len(h.lines) {
		select {
		case <-silence.C:
			ask()
		case a := <-answers:
			switch {
			case a.err == nil:
				h.at, h.ttl = a.at, a.ttl
				return nil
			case errors.Is(a.err, errLeaseGone):
				h.at = a.at
				return a.err
			}
			errs = append(errs, h.lines[a.at].member.trouble(a.err))
			ask()
		}
	}
	return storeaddr.Together(errs...)
}

func (h *holder) hangUp() {
	for _, l := range h.lines {
		l.hangUp()
	}
}

// A line is the stream of renewals to one member. It stays open from one
// renewal to the next: with a password a new one costs etcd a login.
type line struct {
	member *member
	stream etcdserverpb.Lease_LeaseKeepAliveClient // nil: none
	cancel context.CancelFunc
}

func (l *line) hangUp() {
	if l.stream != nil {
		l.cancel()
		l.stream = nil
	}
}

// renew returns the lease's new TTL. The member has the time within to answer,
// and somewhat more where there is no stream to it yet.
func (l *line) renew(ctx context.Context, id int64, within time.Duration) (ttl time.Duration, err error) {
	if l.stream == nil {
		if err := l.dial(ctx); err != nil {
			return 0, err
		}
	}
	ctx, done := context.WithTimeout(ctx, within)
	defer done()
	unhook := context.AfterFunc(ctx, l.cancel)
	ttl, err = renewOn(l.stream, id)
	if !unhook() || err != nil && !errors.Is(err, errLeaseGone) {
		l.hangUp()
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // and not that we hung up
	}
	return ttl, err
}

func (l *line) dial(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, answerWithin)
	defer done()
	conn, err := l.member.conn(ctx)
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(context.Background())
	unhook := context.AfterFunc(ctx, cancel)
	stream, err := etcdserverpb.NewLeaseClient(conn).LeaseKeepAlive(withLeader(life))
	if !unhook() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return err
	}
	l.stream, l.cancel = stream, cancel
	return nil
}

// renewOn sends one renewal and waits for its answer.
func renewOn(stream etcdserverpb.Lease_LeaseKeepAliveClient, id int64) (time.Duration, error) {
	// The reason of a failed Send comes with Recv.
	_ = stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id})
	resp, err := stream.Recv()
	switch {
	case err != nil:
		return 0, err
	case resp.TTL <= 0:
		return 0, errLeaseGone
	default:
		return time.Duration(resp.TTL) * time.Second, nil
	}
}
