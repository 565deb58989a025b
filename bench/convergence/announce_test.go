package convergence

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// TestRender is confd -watch with one key and with many: put to the file that
// holds its value, T5.
func TestRender(t *testing.T) {
	for _, n := range []int{1, *renderKeys} {
		t.Run(fmt.Sprintf("keys=%d", n), func(t *testing.T) { render(t, n) })
	}
}

func render(t *testing.T, n int) {
	etcd := etcdtest.Start(t)
	client := etcd.Client()
	var ops []clientv3.Op
	for i := range n {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("/app/key-%05d", i), "before"))
		if len(ops) == 100 || i == n-1 {
			if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	dir := t.TempDir()
	dest := filepath.Join(dir, "out")
	for name, text := range map[string]string{
		"conf.d/app.toml":    fmt.Sprintf("[template]\nsrc = \"app.tmpl\"\ndest = %q\nkeys = [\"/app\"]\n", dest),
		"templates/app.tmpl": "{{range gets \"/app/*\"}}{{.Key}}={{.Value}}\n{{end}}",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	proctest.Start(t, "confd", nil, proctest.Build(t, "muster/cmd/confd"),
		"-watch", "-backend", "etcdv3", "-node", etcd.Addr(), "-confdir", dir, "-debounce", "0")
	// The key is the last of the file, and the file is replaced as a whole.
	key := fmt.Sprintf("/app/key-%05d", n-1)
	holds := func(value string) bool {
		text, err := os.ReadFile(dest)
		return err == nil && strings.HasSuffix(string(text), key+"="+value+"\n")
	}
	proctest.Eventually(t, "the first file", func() bool { return holds("before") })
	events := watch(t, client, key)
	var rendered, told sample
	for i := range *puts {
		value := fmt.Sprintf("v%d", i)
		start := time.Now()
		put(t, client, key, value)
		for !holds(value) {
			if time.Since(start) > proctest.Patience {
				t.Fatalf("put %d was never rendered", i)
			}
			time.Sleep(100 * time.Microsecond)
		}
		rendered = append(rendered, time.Since(start))
		told = append(told, (<-events).Sub(start))
	}
	target := 15 * time.Millisecond
	if n > 1000 {
		target = 50 * time.Millisecond
	}
	tell(row{"T5", fmt.Sprintf("confd -watch, %d keys: put to file", n), rendered.String(), told.String(), "p99 " + target.String(), rendered.within(0, target)})
}

// TestSidekick is what a sidekick costs while nothing happens, T17, and how long
// after its death its entry is gone, T8.
func TestSidekick(t *testing.T) {
	etcd := etcdtest.Start(t)
	client := etcd.Client()
	const ttl = 3 * time.Second // of those that are killed
	addr := origin(t, "app")
	announce := func(flags ...string) *proctest.Proc {
		return proctest.Start(t, "sidekick", nil, proctest.Build(t, "muster/cmd/sidekick"), append([]string{"web", "-addr", addr, "-store", "etcd://" + etcd.Addr()}, flags...)...)
	}
	key := "/services/web/" + addr
	quiet := announce()
	proctest.Eventually(t, "the announcement", func() bool {
		resp, err := client.Get(t.Context(), key)
		return err == nil && resp.Count == 1
	})
	start, cpu := time.Now(), processorTime(t, quiet.Pid())
	time.Sleep(*idle)
	share := float64(processorTime(t, quiet.Pid())-cpu) / float64(time.Since(start)) * 100
	now, _ := memory(t, quiet.Pid())
	tell(row{"T17", "sidekick that checks by tcp every 2s: RSS", fmt.Sprintf("%.1f MB", now), "", "25 MB", met(now, 25)})
	tell(row{"T17", fmt.Sprintf("its CPU over %v", *idle), fmt.Sprintf("%.2f %%", share), "", "0.1 %", met(share, 0.1)})
	quiet.Signal(syscall.SIGTERM)
	quiet.Wait()

	events := watch(t, client, key)
	sidekick := announce("-ttl", ttl.String())
	<-events
	var gone sample
	for range *kills {
		start := time.Now()
		sidekick.Signal(syscall.SIGKILL)
		sidekick.Wait()
		gone = append(gone, (<-events).Sub(start))
		resp, err := client.Get(t.Context(), key)
		if err != nil || resp.Count != 0 {
			t.Fatalf("the event was no delete: %v %v", resp, err)
		}
		sidekick = announce("-ttl", ttl.String())
		<-events
	}
	longest := gone.quantile(1)
	tell(row{"T8", fmt.Sprintf("kill -9 of a sidekick with ttl %v: entry gone", ttl), fmt.Sprintf("%v to %v", gone.quantile(0).Round(10*time.Millisecond), longest.Round(10*time.Millisecond)), "", "TTL + 0.75s", met(longest, ttl+750*time.Millisecond)})
}
