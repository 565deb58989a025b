package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"

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

func (e *ConflictError) Error() string { return fmt.Sprintf("%q is held by %s", e.Key, e.Holder()) }

// Holder says who holds the key, and with which value.
func (e *ConflictError) Holder() string {
	if e.Lease == 0 {
		return fmt.Sprintf("somebody without a lease, with value %q", e.Value)
	}
	return fmt.Sprintf("lease %x, with value %q", e.Lease, e.Value)
}

// Write puts and deletes keys in one transaction, at most 128 of them. A key is
// put only if it is absent, hangs on this lease (or one that was it before), or
// has the very value to be written, which a former self has left; with TakeOver
// always. Otherwise nothing is written and the error is a [*ConflictError]. A
// key is deleted only if it hangs on this lease, or if somebody put it again
// without a lease as it was; another's is left alone and is no error. What is
// already as it shall be is not written again.
//
// Where a Write holds P/… and P.meta/…, the first decides about both: they say
// one thing, and the metadata of a former self differ. If it is to be deleted and
// is another's, the second is left alone too.
//
// Write waits for etcd, and to put for a lease, until ctx ends. It may be called at any
// time from any goroutine while Run runs.
func (l *Lease) Write(ctx context.Context, put []backends.KV, del []string) error {
	if n := len(put) + len(del); n > maxOps {
		return fmt.Errorf("write of %d keys: want at most %d", n, maxOps)
	}
	if len(put)+len(del) == 0 {
		return nil
	}
	_ = l.openFile() // what is written is claimed; Run tells of an error
	l.begin(put, del)
	return l.run(ctx, put, del)
}

// run does what was begun.
func (l *Lease) run(ctx context.Context, put []backends.KV, del []string) (err error) {
	defer func() { l.finish(put, del, err) }()
	w := write{lease: l, put: put, del: del}
	select {
	case l.repairing <- struct{}{}: // a repair that runs now may undo this
		<-l.repairing
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", w.what(), context.Cause(ctx))
	}
	failures := 0
	for {
		id, err := l.wait(ctx, len(put) > 0)
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
			return fmt.Errorf("%s: %w", w.what(), endedBy(ctx, err))
		}
	}
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*ConflictError](err)
	return ok
}

// endedBy is the error of something that was still failing when ctx ended.
func endedBy(ctx context.Context, err error) error {
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// A write is one call of Write, or a repair of what others did to what it wrote.
type write struct {
	lease  *Lease
	put    []backends.KV
	del    []string
	repair bool
	wrote  []string // by the last transaction
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
	l := w.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	w.wrote = w.wrote[:0]
	req := &etcdserverpb.TxnRequest{Failure: w.reads()}
	guard := func(key string, now *mvccpb.KeyValue) {
		req.Compare = append(req.Compare, &etcdserverpb.Compare{
			Key:         []byte(key),
			Target:      etcdserverpb.Compare_MOD,
			Result:      etcdserverpb.Compare_EQUAL,
			TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: now.GetModRevision()},
		})
	}
	do := func(key string, now *mvccpb.KeyValue, op *etcdserverpb.RequestOp) {
		guard(key, now)
		req.Success = append(req.Success, op)
		w.wrote = append(w.wrote, key)
	}
	for i, p := range w.put {
		now := held[i]
		switch decider, may := w.mayPut(i, held); {
		case w.repair && (!may || l.wishes.settled(p.Key) == nil):
			continue // another's, or a Write is at it
		case l.wishes.keys[p.Key].absent:
			continue // a later Write has taken it back
		case decider < 0:
			continue
		case !may:
			other := held[decider]
			return nil, &ConflictError{Key: w.put[decider].Key, Value: string(other.Value), Lease: other.Lease}
		case now != nil && now.Lease == id && string(now.Value) == p.Value:
			guard(p.Key, now) // it is as it shall be
			continue
		}
		do(p.Key, now, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{
			RequestPut: &etcdserverpb.PutRequest{Key: []byte(p.Key), Value: []byte(p.Value), Lease: id},
		}})
	}
	for i, key := range w.del {
		now := held[len(w.put)+i]
		if !w.mayDelete(key, now) {
			continue
		}
		do(key, now, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(key)},
		}})
	}
	return req, nil
}

// mayPut reports whether the i-th key may be put, and which of the keys to be
// put has decided that; -1 means one that is to be deleted and is another's, so
// that nothing is to be said beside it. l.mu is held.
func (w *write) mayPut(i int, held []*mvccpb.KeyValue) (decider int, may bool) {
	leader := leaderOf(w.put[i].Key)
	decider = i
	for j, p := range w.put {
		if p.Key == leader {
			decider = j
		}
	}
	if j := slices.Index(w.del, leader); j >= 0 {
		if now := held[len(w.put)+j]; now != nil && !w.mayDelete(leader, now) {
			return -1, false
		}
	}
	now := held[decider]
	switch {
	case now == nil, w.lease.mine[now.Lease]:
		return decider, true
	case w.repair:
		return decider, now.Lease == 0
	default:
		return decider, w.lease.TakeOver || string(now.Value) == w.put[decider].Value
	}
}

// mayDelete reports whether key is ours: it hangs on our lease, or it says what
// we wrote and somebody took the lease off it. l.mu is held.
func (w *write) mayDelete(key string, now *mvccpb.KeyValue) bool {
	wish := w.lease.wishes.keys[key]
	if now == nil || w.repair && w.lease.wishes.settled(key) == nil || !wish.absent {
		return false // the last: a later Write has put it
	}
	return w.lease.mine[now.Lease] || now.Lease == 0 && wish.put && string(now.Value) == wish.value
}
