// Package confd measures confd: how long it takes, and how much CPU, from a put
// in etcd to the file, and what one pass costs. Beside it stands etcd itself in
// the same run, and another confd where CONFD_BINARY names one:
//
//	CONFD_BINARY=/usr/bin/confd go test ./bench/confd -v -timeout 30m -args -keys 10000 -resources 100 -puts 200 -all 10000,100000
//
// Times are printed, never asserted; what is asserted is that every put arrives
// in its file.
package confd

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

var (
	keys      = flag.Int("keys", 500, "keys in the store")
	resources = flag.Int("resources", 10, "resources, among which the keys are shared out")
	puts      = flag.Int("puts", 5, "puts to measure")
	all       = flag.String("all", "500", "numbers of keys for the template over all services, comma-separated")
	passes    = flag.Int("passes", 2, "passes of -onetime to measure")
)

func TestMain(m *testing.M) {
	code := m.Run()
	proctest.Clean()
	os.Exit(code)
}

// binaries are the confds to measure, by name.
func binaries(t *testing.T) (list [][2]string) {
	list = append(list, [2]string{"ours", proctest.Build(t, "muster/cmd/confd")})
	if other := os.Getenv("CONFD_BINARY"); other != "" {
		list = append(list, [2]string{"other", other})
	}
	return list
}

// fill puts n keys: resource r has /r/R/K.
func fill(t *testing.T, client *clientv3.Client, n int, key func(int) string) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		var ops []clientv3.Op
		for j := i; j < min(n, i+100); j++ {
			ops = append(ops, clientv3.OpPut(key(j), fmt.Sprintf("10.0.%d.%d:8080", j/250%250, j%250)))
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// confdir has as many resources as are asked for, each with its own keys.
func confdir(t *testing.T) string {
	dir := t.TempDir()
	for r := range *resources {
		write(t, fmt.Sprintf("%s/conf.d/r%03d.toml", dir, r),
			fmt.Sprintf("[template]\nsrc = 't%03d'\ndest = '%s/out/%03d'\nkeys = ['/r/%03d']\n", r, dir, r, r))
		write(t, fmt.Sprintf("%s/templates/t%03d", dir, r), fmt.Sprintf("{{range gets \"/r/%03d/*\"}}server {{.Value}}; # {{base .Key}}\n{{end}}", r))
	}
	write(t, dir+"/out/keep", "")
	return dir
}

func key(i int) string { return fmt.Sprintf("/r/%03d/%05d", i%*resources, i) }

func args(server *etcdtest.Server, dir string, more ...string) []string {
	return append([]string{"-backend", "etcdv3", "-node", server.Addr(), "-confdir", dir, "-config-file", dir + "/none", "-log-level", "error"}, more...)
}

// cpu is what a process has used.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skipf("CPU is read from /proc: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// TestPutToFile follows puts, one at a time, each in the keys of one resource.
func TestPutToFile(t *testing.T) {
	server := etcdtest.Start(t)
	client := server.Client()
	fill(t, client, *keys, key)
	t.Logf("%d keys, %d resources, %d puts", *keys, *resources, *puts)
	plain := watched(t, client)
	t.Logf("  etcd, put to watch event    p50 %s  p99 %s", quantile(plain, 0.5), quantile(plain, 0.99))
	for _, b := range binaries(t) {
		t.Run(b[0], func(t *testing.T) {
			dir := confdir(t)
			confd := proctest.Start(t, b[0], nil, b[1], args(server, dir, "-watch")...)
			last := fmt.Sprintf("%s/out/%03d", dir, *resources-1)
			for r := range *resources {
				proctest.Eventually(t, "the first files", func() bool { _, err := os.Stat(fmt.Sprintf("%s/out/%03d", dir, r)); return err == nil })
			}
			start := cpu(t, confd.Pid())
			var times []time.Duration
			for i := range *puts {
				value := fmt.Sprintf("put-%d-%s", i, b[0])
				from := time.Now()
				if _, err := client.Put(t.Context(), key(*resources-1), value); err != nil {
					t.Fatal(err)
				}
				for {
					text, err := os.ReadFile(last)
					if err == nil && strings.Contains(string(text), "server "+value+";") {
						break
					}
					if time.Since(from) > proctest.Patience {
						t.Fatalf("put %d never came to the file", i)
					}
					time.Sleep(200 * time.Microsecond)
				}
				times = append(times, time.Since(from))
			}
			used := cpu(t, confd.Pid()) - start
			confd.Signal(syscall.SIGTERM)
			confd.Wait()
			t.Logf("  put to file                 p50 %s  p99 %s  CPU %s a put", quantile(times, 0.5), quantile(times, 0.99), used/time.Duration(*puts))
		})
	}
}

// watched is how long etcd itself takes to tell a watcher of a put.
func watched(t *testing.T, client *clientv3.Client) (times []time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := client.Watch(ctx, key(0), clientv3.WithCreatedNotify())
	<-events
	for i := range *puts {
		from := time.Now()
		if _, err := client.Put(ctx, key(0), fmt.Sprintf("plain-%d", i)); err != nil {
			t.Fatal(err)
		}
		<-events
		times = append(times, time.Since(from))
	}
	return times
}

// TestOnetime measures one pass over all resources, nothing rendered yet.
func TestOnetime(t *testing.T) {
	server := etcdtest.Start(t)
	fill(t, server.Client(), *keys, key)
	t.Logf("%d keys, %d resources", *keys, *resources)
	readAll(t, server.Client(), "/r/")
	for _, b := range binaries(t) {
		measure(t, b, func() []string { return args(server, confdir(t), "-onetime") })
	}
}

// TestAllServices measures one pass of one template over all services, ten keys each.
func TestAllServices(t *testing.T) {
	for text := range strings.SplitSeq(*all, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("-all %q: want counts such as 10000,100000", *all)
		}
		server := etcdtest.Start(t)
		fill(t, server.Client(), n, func(i int) string { return fmt.Sprintf("/services/s%05d/%d", i/10, i%10) })
		t.Logf("%d keys, all services in one template", n)
		readAll(t, server.Client(), "/services/")
		for _, b := range binaries(t) {
			measure(t, b, func() []string {
				dir := t.TempDir()
				write(t, dir+"/conf.d/r.toml", "[template]\nsrc = 't'\ndest = '"+dir+"/out'\nkeys = ['/services']\n")
				write(t, dir+"/templates/t", "{{range $s := ls \"/services\"}}upstream {{$s}} {\n{{range getvs (printf \"/services/%s/*\" $s)}}  server {{.}};\n{{end}}}\n{{end}}")
				return args(server, dir, "-onetime")
			})
		}
	}
}

// readAll says what it takes to read the keys with etcd's client alone.
func readAll(t *testing.T, client *clientv3.Client, prefix string) {
	t.Helper()
	var times []time.Duration
	for range *passes {
		start := time.Now()
		if _, err := client.Get(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	t.Logf("  etcd, plain read of all     p50 %s", quantile(times, 0.5))
}

// measure runs passes and says what they took; each has a new folder.
func measure(t *testing.T, b [2]string, args func() []string) {
	t.Helper()
	var walls, cpus []time.Duration
	for range *passes {
		cmd := exec.Command(b[1], args()...)
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", b[0], err, out)
		}
		walls = append(walls, time.Since(start))
		cpus = append(cpus, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	t.Logf("  %-5s -onetime              p50 %s  CPU %s", b[0], quantile(walls, 0.5), quantile(cpus, 0.5))
}

func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))].Round(10 * time.Microsecond)
}
