package etcd

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"muster/backends"
)

const (
	// pageSize costs no more than asking for all at once, and keeps an answer
	// small enough to come within pageWithin.
	pageSize   = 10_000
	pageWithin = 10 * time.Second
)

func fromEtcd(kv *mvccpb.KeyValue) backends.KV {
	return backends.KV{
		Key: string(kv.Key), Value: string(kv.Value),
		Created: kv.CreateRevision, Modified: kv.ModRevision, Lease: kv.Lease,
	}
}

// take appends what is wanted of a page, whose texts become one: of 200,000 keys
// that is a tenth of a second. Who keeps one of them for long keeps the page.
func (s span) take(kvs []backends.KV, page []*mvccpb.KeyValue) []backends.KV {
	size := 0
	for _, kv := range page {
		size += len(kv.Key) + len(kv.Value)
	}
	var texts strings.Builder
	texts.Grow(size)
	for _, kv := range page {
		texts.Write(kv.Key)
		texts.Write(kv.Value)
	}
	rest := texts.String()
	for _, kv := range page {
		key, value := rest[:len(kv.Key)], rest[len(kv.Key):len(kv.Key)+len(kv.Value)]
		rest = rest[len(kv.Key)+len(kv.Value):]
		if s.wants(key) {
			kvs = append(kvs, backends.KV{Key: key, Value: value, Created: kv.CreateRevision, Modified: kv.ModRevision, Lease: kv.Lease})
		}
	}
	return kvs
}

func (s span) request(revision int64) *etcdserverpb.RangeRequest {
	return &etcdserverpb.RangeRequest{Key: []byte(s.from), RangeEnd: []byte(s.to), Revision: revision, Limit: pageSize}
}

// list reads all spans as they are at one revision. It begins again if that
// revision is compacted while it reads.
func list(ctx context.Context, conn *grpc.ClientConn, all []span) ([]backends.KV, int64, error) {
	kv := etcdserverpb.NewKVClient(conn)
	for {
		kvs, revision, err := listOnce(ctx, kv, all)
		if !is(err, rpctypes.ErrGRPCCompacted) {
			return kvs, revision, err
		}
	}
}

func listOnce(ctx context.Context, kv etcdserverpb.KVClient, all []span) (kvs []backends.KV, revision int64, err error) {
	for from := 0; from < len(all); from += maxOps {
		part := all[from:min(from+maxOps, len(all))]
		txn := &etcdserverpb.TxnRequest{}
		for _, s := range part {
			txn.Success = append(txn.Success, &etcdserverpb.RequestOp{
				Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: s.request(revision)},
			})
		}
		var resp *etcdserverpb.TxnResponse
		err := timed(ctx, pageWithin, func(ctx context.Context) (err error) {
			resp, err = kv.Txn(ctx, txn)
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for i, s := range part {
			page := resp.Responses[i].GetResponseRange()
			kvs = slices.Grow(kvs, int(page.Count))
			for {
				kvs = s.take(kvs, page.Kvs)
				if !page.More {
					break
				}
				next := s
				next.from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
				err := timed(ctx, pageWithin, func(ctx context.Context) (err error) {
					page, err = kv.Range(ctx, next.request(revision))
					return err
				})
				if err != nil {
					return nil, 0, err
				}
			}
		}
	}
	return kvs, revision, nil
}
