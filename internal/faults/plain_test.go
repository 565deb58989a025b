package faults

import (
	"context"
	"errors"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"muster/internal/etcdtest"
)

// A plainWatch is who follows etcd with its client's Watch and believes it: what
// our balancer is compared with.
type plainWatch struct {
	mu      sync.Mutex
	table   map[string]string
	gone    map[string]int // how often a key was deleted
	trouble []error        // all that it was ever told of
}

// watchPlainly follows prefix at the member itself.
func watchPlainly(t *testing.T, s *etcdtest.Server, prefix string) *plainWatch {
	t.Helper()
	return watchPlainlyBy(t, s.Client(), prefix)
}

// plainClient is etcd's own client of addr, which may be a relay's.
func plainClient(t *testing.T, addr string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func watchPlainlyBy(t *testing.T, c *clientv3.Client, prefix string) *plainWatch {
	t.Helper()
	w := &plainWatch{table: make(map[string]string), gone: make(map[string]int)}
	resp, err := c.Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		w.table[string(kv.Key)] = string(kv.Value)
	}
	ctx, cancel := context.WithCancel(context.Background())
	events := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
	var wg sync.WaitGroup
	wg.Go(func() {
		for r := range events {
			w.take(r)
		}
		if ctx.Err() == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.trouble = append(w.trouble, errors.New("closed"))
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

func (w *plainWatch) take(r clientv3.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := r.Err(); err != nil {
		w.trouble = append(w.trouble, err)
	}
	for _, e := range r.Events {
		key := string(e.Kv.Key)
		if e.Type == clientv3.EventTypeDelete {
			delete(w.table, key)
			w.gone[key]++
		} else {
			w.table[key] = string(e.Kv.Value)
		}
	}
}

func (w *plainWatch) has(key string) bool { return w.value(key) != "" }

func (w *plainWatch) value(key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.table[key]
}

func (w *plainWatch) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.table)
}

func (w *plainWatch) wasDeleted(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone[key]
}

// told is what it was told of faults: of most, nothing.
func (w *plainWatch) told() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trouble
}
