//go:build containers

package containers_test

import (
	"context"
	"fmt"
	"path"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"muster/internal/proctest"
)

// keys follows what is announced, as etcd's own client sees it, through a
// gateway: the fleet's etcd has no published port.
type keys struct {
	mu   sync.Mutex
	have map[string]bool // by ID
}

func (f *fleet) follow(t *testing.T) *keys {
	name := f.container("gateway")
	f.Docker(t, "run", "-d", "--name", name, "--network", f.name, "-p", f.Host+"::2379", "--entrypoint", "/etcd", f.name+"/etcd",
		"gateway", "start", "--listen-addr", "0.0.0.0:2379", "--endpoints", "etcd:2379")
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{f.Published(t, name, 2379)}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	k := &keys{have: make(map[string]bool)}
	ctx, cancel := context.WithCancel(context.Background())
	events := client.Watch(ctx, "/services/", clientv3.WithPrefix(), clientv3.WithRev(1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for resp := range events {
			k.mu.Lock()
			for _, e := range resp.Events {
				k.have[path.Base(string(e.Kv.Key))] = e.Type == clientv3.EventTypePut
			}
			k.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		client.Close()
	})
	return k
}

func (k *keys) wait(t *testing.T, id string, there bool) {
	t.Helper()
	proctest.Eventually(t, fmt.Sprintf("%s announced: %v", id, there), func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.have[id] == there
	})
}
