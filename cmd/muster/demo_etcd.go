//go:build !noembed

package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// startEtcd runs an etcd of its own at addr, with its files in dir, and returns
// when it answers. It is alone, so it may elect itself at once: it is ready in
// about 0.1 s.
func startEtcd(ctx context.Context, dir, addr string) (stop func(), err error) {
	peer, err := freeAddr("127.0.0.1:2380")
	if err != nil {
		return nil, err
	}
	clients, peers := []url.URL{{Scheme: "http", Host: addr}}, []url.URL{{Scheme: "http", Host: peer}}
	cfg := embed.NewConfig()
	cfg.Name = "demo"
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = clients, clients
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peers, peers
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true // nothing of it shall outlive the demo
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("etcd %s: %w", addr, err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return e.Close, nil
	case err = <-e.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.Close()
	return nil, fmt.Errorf("etcd %s: %w", addr, err)
}
