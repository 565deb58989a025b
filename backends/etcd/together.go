package etcd

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"muster/backends"
	"muster/internal/storeaddr"
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
	return backends.Change{}, storeaddr.Together(errs...)
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
		w.place.spans = s.wide(ctx, spans(prefixes, false))
		w.run(ctx)
	}
}

// siblings is how many keys that nobody wants may lie in a range that is wider than
// needed.
const siblings = 100

// wide makes one range, ["P", "P0"), of the two of a prefix, the key P and
// ["P/", "P0"), where only few keys lie between them: what comes of one range needs
// not wait until etcd has said how far the other is. Those that can't be asked
// for stay two.
func (s *Store) wide(ctx context.Context, all []span) []span {
	few := s.fewSiblings(ctx, all)
	var list []span
	for _, o := range all {
		switch {
		case !few[o.group]:
			list = append(list, o)
		case o.to == "": // and not what is below: it is in this one
			list = append(list, span{from: o.from, to: o.from + "0", only: []string{o.from}, group: o.group})
		}
	}
	return list
}

// fewSiblings asks which groups have few keys between the key P and "P/".
func (s *Store) fewSiblings(ctx context.Context, all []span) map[int]bool {
	few := make(map[int]bool)
	keys := slices.DeleteFunc(slices.Clone(all), func(o span) bool { return o.to != "" || o.only != nil })
	for some := range slices.Chunk(keys, maxOps) {
		txn := &etcdserverpb.TxnRequest{}
		for _, o := range some {
			txn.Success = append(txn.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{
				RequestRange: &etcdserverpb.RangeRequest{Key: []byte(o.from + "\x00"), RangeEnd: []byte(o.from + "/"), CountOnly: true},
			}})
		}
		err := s.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
			resp, err := etcdserverpb.NewKVClient(conn).Txn(ctx, txn)
			if err != nil {
				return err
			}
			for i, o := range some {
				few[o.group] = resp.Responses[i].GetResponseRange().Count <= siblings
			}
			return nil
		})
		if err != nil {
			break
		}
	}
	return few
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
