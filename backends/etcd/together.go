package etcd

import (
	"context"
	"errors"
	"iter"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"muster/backends"
)

var _ backends.Together = (*Store)(nil)

// Read returns every key under prefixes, all at one revision. It asks one member
// after the other until one answers; the error is of all of them. Unlike Watch
// it leaves nothing out for a user who may not read the whole.
func (s *Store) Read(ctx context.Context, prefixes []string) (backends.Change, error) {
	all := spans(prefixes, false)
	var errs []error
	first := int(s.answering.Load())
	for i := range s.members {
		at := (first + i) % len(s.members)
		m := s.members[at]
		c, err := m.read(ctx, all)
		switch {
		case err == nil:
			s.answering.Store(int32(at))
			return c, nil
		case hopeless(err):
			return c, m.trouble(err)
		}
		errs = append(errs, m.trouble(err))
		if ctx.Err() != nil {
			break
		}
	}
	return backends.Change{}, together(errs)
}

// read lists all, once m has shown that it answers: a list may take its time,
// and a frozen member shall cost no more than answerWithin.
func (m *member) read(ctx context.Context, all []span) (backends.Change, error) {
	var conn *grpc.ClientConn
	err := timed(ctx, answerWithin, func(ctx context.Context) (err error) {
		if conn, err = m.conn(ctx); err == nil {
			_, err = etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(all[0].from), CountOnly: true})
		}
		return err
	})
	if err != nil {
		return backends.Change{}, err
	}
	kvs, revision, err := list(ctx, conn, all)
	if err != nil {
		return backends.Change{}, err
	}
	return backends.Change{Revision: revision, Full: true, Put: kvs}, nil
}

// WatchTogether is Watch, but leaves nothing out for a user who may not read the
// whole: that is [backends.ErrDenied].
func (s *Store) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		w := &watch{store: s, prefixes: prefixes, yield: yield, every: askEvery, exact: true}
		w.place.spans = spans(prefixes, false)
		w.run(ctx)
	}
}

// Is says which errors are [backends.ErrDenied].
func (e *memberError) Is(target error) bool { return target == backends.ErrDenied && refused(e.err) }

// refused reports whether etcd doesn't let the user read a key.
func refused(err error) bool {
	if e, ok := errors.AsType[*canceledError](err); ok {
		return strings.Contains(e.reason, "permission denied")
	}
	return codeOf(err) == codes.PermissionDenied
}
