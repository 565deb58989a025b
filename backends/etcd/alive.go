package etcd

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// LeaseAlive reports whether etcd has the lease id, whoever holds it.
func (s *Store) LeaseAlive(ctx context.Context, id int64) (alive bool, err error) {
	err = s.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := etcdserverpb.NewLeaseClient(conn).LeaseTimeToLive(ctx, &etcdserverpb.LeaseTimeToLiveRequest{ID: id})
		if is(err, rpctypes.ErrGRPCLeaseNotFound) {
			alive = false
			return nil
		}
		alive = err == nil && resp.TTL > 0
		return err
	})
	return alive, err
}
