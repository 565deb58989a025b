//go:build noembed

package main

import (
	"context"
	"errors"
)

func startEtcd(context.Context, string, string) (stop func(), err error) {
	return nil, errors.New("this binary was built without the embedded etcd (build tag noembed): build it without that tag, " +
		"or start an etcd, then muster proxy, muster echo and muster sidekick beside it")
}
