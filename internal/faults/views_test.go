package faults

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/backends/etcd"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// Somebody writes a value and its metadata in one transaction, again and again
// (W6): no file that is rendered from both mixes two of them. Who follows them by
// two plain Watches sees them mixed all the time.
func TestNoFileMixesTwoTransactions(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	pair := func(i int) {
		text := fmt.Sprint(i)
		if _, err := s.Client().Txn(t.Context()).Then(clientv3.OpPut(key, text), clientv3.OpPut("/services.x", text), clientv3.OpPut(metaKey, text)).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	pair(0)
	dir := t.TempDir()
	log := filepath.Join(dir, "renders")
	for name, text := range map[string]string{
		"conf.d/pair.toml":    fmt.Sprintf("[template]\nsrc = \"pair.tmpl\"\ndest = %q\nkeys = [\"/services\", \"/services.meta\"]\ncheck_cmd = \"cat {{.src}} >>%s\"\n", filepath.Join(dir, "pair"), log),
		"templates/pair.tmpl": fmt.Sprintf("{{getv %q}} {{getv %q}}\n", key, metaKey),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	muster(t, "template", "template", "-watch", "-debounce", "0", "-log", "warn", "-confdir", dir, "-store", etcdURL(s.Addr()))
	renders := func() []string {
		text, _ := os.ReadFile(log) // none yet
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	proctest.Eventually(t, "the first render", func() bool { return renders()[0] == "0 0" })

	torn := watchTorn(t, s.Client())
	writes := 0
	for deadline := time.Now().Add(proctest.Patience); writes < 200 || len(renders()) < 20 && time.Now().Before(deadline); {
		writes++
		pair(writes)
	}
	last := fmt.Sprintf("%d %[1]d", writes)
	proctest.Eventually(t, "the last render", func() bool { r := renders(); return r[len(r)-1] == last })
	got := renders()
	for _, line := range got {
		if value, meta, _ := strings.Cut(line, " "); value != meta {
			t.Errorf("a file mixes %s and %s", value, meta)
		}
	}
	if len(got) < 20 {
		t.Errorf("only %d renders: too few to tell", len(got))
	}
	naive := torn()
	if naive == 0 {
		t.Error("the fault does not bite: two plain Watches were never apart")
	}
	t.Logf("%d writes, %d renders, none torn; two plain Watches were apart after %d of %d events", writes, len(got), naive, 2*writes)
}

// watchTorn follows both keys by a plain Watch each. torn ends it and says after
// how many events they had different values.
func watchTorn(t *testing.T, c *clientv3.Client) (torn func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	values, metas := c.Watch(ctx, key, clientv3.WithCreatedNotify()), c.Watch(ctx, metaKey, clientv3.WithCreatedNotify())
	<-values // created
	<-metas
	apart := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		now := make(map[string]string)
		for {
			var r clientv3.WatchResponse
			select {
			case r = <-values:
			case r = <-metas:
			case <-ctx.Done():
				return
			}
			for _, e := range r.Events {
				now[string(e.Kv.Key)] = string(e.Kv.Value)
				if now[key] != now[metaKey] {
					apart++
				}
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() int { cancel(); <-done; return apart }
}

// A reader that stands still while keys change (W8) costs as much memory as there
// are keys, and then has the newest of each. A plain Watch keeps every change.
// Not parallel: it looks at the heap.
func TestSlowReaderCostsBoundedMemory(t *testing.T) {
	const keys, rounds, size = 100, 80, 4 << 10
	s := etcdtest.Start(t)
	store, err := etcd.Open(etcdURL(s.Addr()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	client := s.Client()
	storm := func(name string) {
		var writers sync.WaitGroup
		for w := range 10 {
			writers.Go(func() {
				for round := range rounds {
					for i := w; i < keys; i += 10 {
						value := fmt.Sprint(name, round, strings.Repeat("x", size))
						if _, err := client.Put(t.Context(), fmt.Sprintf("/%s/%d", name, i), value); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		writers.Wait()
	}
	content := func(name string) map[string]string {
		resp, err := s.Client().Get(t.Context(), "/"+name+"/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		content := make(map[string]string)
		for _, kv := range resp.Kvs {
			content[string(kv.Key)] = string(kv.Value)
		}
		return content
	}

	feed := backends.NewFeed(t.Context(), store, "/ours")
	defer feed.Close()
	if _, err := feed.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := heap()
	storm("ours") // nobody takes
	// The last that etcd sent may be large, and on its way.
	const all = keys * rounds * size
	var ours int
	proctest.Eventually(t, "a reader that stands still costs about what there is", func() bool { ours = heap() - before; return ours <= all/4 })
	got := make(map[string]string)
	for want := content("ours"); !maps.Equal(got, want); {
		c, err := feed.Next(t.Context())
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		for _, kv := range c.Put { // of an error, on a busy machine, there is nothing
			got[kv.Key] = kv.Value
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	plain := s.Client().Watch(ctx, "/plain", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-plain
	before = heap()
	storm("plain") // nobody takes
	var naive int
	proctest.Eventually(t, "the plain Watch has taken everything into memory", func() bool { naive = heap() - before; return naive > all/2 })
	for range plain {
		if cancel(); ctx.Err() != nil {
			break
		}
	}
	t.Logf("%d KiB in %d KiB of keys while the reader stood still: ours grew by %d KiB, a plain Watch by %d KiB", all>>10, keys*size>>10, ours>>10, naive>>10)
}

func heap() int {
	for range 3 { // pools are emptied by the second only
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
