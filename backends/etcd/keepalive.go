package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

var errLeaseGone = errors.New("lease not found")

// renew asks one member after the other until one has renewed id, or says that
// it is gone. The stream of the one that answered stays open: with a password a
// new stream costs etcd a login.
func (h *holder) renew(ctx context.Context, id int64) error {
	// A member that hangs must not cost the lease.
	within := max(250*time.Millisecond, min(time.Second, h.ttl/8))
	members := h.lease.store.members
	var last error
	for range members {
		m := members[h.at]
		err := h.renewAt(ctx, m, id, within)
		if err == nil || errors.Is(err, errLeaseGone) || ctx.Err() != nil {
			return err
		}
		h.hangUp()
		last = m.trouble(err)
		h.at = (h.at + 1) % len(members)
	}
	return last
}

func (h *holder) renewAt(ctx context.Context, m *member, id int64, within time.Duration) error {
	if h.line != nil && h.line.member != m {
		h.hangUp()
	}
	if h.line == nil {
		line, err := dial(ctx, m)
		if err != nil {
			return err
		}
		h.line = line
	}
	ttl, err := h.line.renew(id, within)
	if err == nil {
		h.ttl = ttl
	}
	return err
}

func (h *holder) hangUp() {
	if h.line != nil {
		h.line.cancel()
		h.line = nil
	}
}

// A keepAlive is one open stream of renewals to a member.
type keepAlive struct {
	member *member
	stream etcdserverpb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

// dial opens the stream, for at most answerWithin.
func dial(ctx context.Context, m *member) (*keepAlive, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(answerWithin, cancel)
	defer late.Stop()
	conn, err := m.conn(ctx)
	if err == nil {
		var stream etcdserverpb.Lease_LeaseKeepAliveClient
		if stream, err = etcdserverpb.NewLeaseClient(conn).LeaseKeepAlive(withLeader(ctx)); err == nil {
			return &keepAlive{m, stream, cancel}, nil
		}
	}
	cancel()
	return nil, err
}

// renew returns the lease's new TTL. After an error the stream is of no use.
func (k *keepAlive) renew(id int64, within time.Duration) (time.Duration, error) {
	late := time.AfterFunc(within, k.cancel)
	defer late.Stop()
	// The reason of a failed Send comes with Recv.
	_ = k.stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id})
	resp, err := k.stream.Recv()
	switch {
	case err != nil:
		return 0, err
	case resp.TTL <= 0:
		return 0, errLeaseGone
	default:
		return time.Duration(resp.TTL) * time.Second, nil
	}
}
