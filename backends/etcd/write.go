package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"muster/backends"
)

// maxOps is how many operations etcd takes in one transaction.
const maxOps = 128

// A ConflictError says who holds a key that Write was to put: another lease, or
// somebody without one (Lease is 0) who wrote another value.
type ConflictError struct {
	Key, Value string
	Lease      int64
}

func (e *ConflictError) Error() string {
	holder := "somebody without a lease"
	if e.Lease != 0 {
		holder = fmt.Sprintf("lease %x", e.Lease)
	}
	return fmt.Sprintf("%q is held by %s with value %q", e.Key, holder, e.Value)
}

// Write puts and deletes keys in one transaction, at most 128 of them. A key is
// put only if it is absent, hangs on this lease (or one that Run had before), or
// has the value to be written and no lease; with TakeOver always. Otherwise
// nothing is written and the error is a [*ConflictError]. A key is deleted only
// if it hangs on this lease; another's is left alone and is no error.
//
// Write waits for a lease and for etcd until ctx ends. It may be called at any
// time from any goroutine while Run runs.
func (l *Lease) Write(ctx context.Context, put []backends.KV, del []string) error {
	w := write{lease: l, put: put, del: del}
	if n := len(put) + len(del); n > maxOps {
		return fmt.Errorf("write of %d keys: want at most %d", n, maxOps)
	}
	if len(put)+len(del) == 0 {
		return nil
	}
	failures := 0
	for {
		id, err := l.wait(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", w.what(), err)
		}
		err = l.store.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
			return w.try(ctx, etcdserverpb.NewKVClient(conn), id)
		})
		switch {
		case err == nil:
			return nil
		case is(err, rpctypes.ErrGRPCLeaseNotFound):
			l.gone(id)
			continue
		case isConflict(err), hopeless(err):
			return fmt.Errorf("%s: %w", w.what(), err)
		}
		if !pause(ctx, retryAfter(&failures)) {
			return fmt.Errorf("%s: %w", w.what(), ended(ctx, err))
		}
	}
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*ConflictError](err)
	return ok
}

// ended is the error of something that was still failing when ctx ended.
func ended(ctx context.Context, err error) error {
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// A write is one call of Write.
type write struct {
	lease *Lease
	put   []backends.KV
	del   []string
}

// what names the first key, for errors.
func (w *write) what() string {
	if len(w.put) > 0 {
		return fmt.Sprintf("write %q", w.put[0].Key)
	}
	return fmt.Sprintf("delete %q", w.del[0])
}

// try reads the keys, decides, and writes if they are still as they were read;
// if not, the transaction has read them again.
func (w *write) try(ctx context.Context, kv etcdserverpb.KVClient, id int64) error {
	read := &etcdserverpb.TxnRequest{Success: w.reads()}
	for req := read; ; {
		resp, err := kv.Txn(ctx, req)
		if err != nil {
			return err
		}
		if req != read && resp.Succeeded {
			return nil
		}
		if req, err = w.decide(w.held(resp), id); err != nil || len(req.Success) == 0 {
			return err
		}
	}
}

func (w *write) reads() []*etcdserverpb.RequestOp {
	ops := make([]*etcdserverpb.RequestOp, 0, len(w.put)+len(w.del))
	get := func(key string) {
		ops = append(ops, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{
			RequestRange: &etcdserverpb.RangeRequest{Key: []byte(key)},
		}})
	}
	for _, p := range w.put {
		get(p.Key)
	}
	for _, key := range w.del {
		get(key)
	}
	return ops
}

// held is what reads found, nil where there is no key.
func (w *write) held(resp *etcdserverpb.TxnResponse) []*mvccpb.KeyValue {
	kvs := make([]*mvccpb.KeyValue, len(resp.Responses))
	for i, r := range resp.Responses {
		if found := r.GetResponseRange().GetKvs(); len(found) > 0 {
			kvs[i] = found[0]
		}
	}
	return kvs
}

// decide returns the transaction that writes what may be written, given what the
// keys are now.
func (w *write) decide(held []*mvccpb.KeyValue, id int64) (*etcdserverpb.TxnRequest, error) {
	req := &etcdserverpb.TxnRequest{Failure: w.reads()}
	guard := func(key string, now *mvccpb.KeyValue) {
		req.Compare = append(req.Compare, &etcdserverpb.Compare{
			Key:         []byte(key),
			Target:      etcdserverpb.Compare_MOD,
			Result:      etcdserverpb.Compare_EQUAL,
			TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: now.GetModRevision()},
		})
	}
	for i, p := range w.put {
		now := held[i]
		if !w.mayPut(p, now) {
			return nil, &ConflictError{Key: p.Key, Value: string(now.Value), Lease: now.Lease}
		}
		guard(p.Key, now)
		req.Success = append(req.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{
			RequestPut: &etcdserverpb.PutRequest{Key: []byte(p.Key), Value: []byte(p.Value), Lease: id},
		}})
	}
	for i, key := range w.del {
		now := held[len(w.put)+i]
		if now == nil || !w.lease.isMine(now.Lease) {
			continue
		}
		guard(key, now)
		req.Success = append(req.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(key)},
		}})
	}
	return req, nil
}

func (w *write) mayPut(p backends.KV, now *mvccpb.KeyValue) bool {
	switch {
	case now == nil, w.lease.TakeOver, w.lease.isMine(now.Lease):
		return true
	default:
		return now.Lease == 0 && string(now.Value) == p.Value
	}
}
