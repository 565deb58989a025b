// Package confd measures confd: how long it takes, and how much CPU, from a put
// in etcd to the file, and what one pass costs. Beside it stands etcd itself in
// the same run, and another confd where CONFD_BINARY names one:
//
//	CONFD_BINARY=/usr/bin/confd go test ./bench/confd -v -timeout 30m -args -keys 10000 -resources 100 -puts 200 -rounds 5 -all 10000,100000
//
// Everything is measured in rounds, one confd after the other in each, so that a
// busy moment hits all; what is printed is the median of the rounds, and in how
// many of them ours stood better. Times are printed, never asserted; what is
// asserted is that every put arrives in its file. README.md has a table.
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
	"go.uber.org/goleak"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

var (
	keys      = flag.Int("keys", 500, "keys in the store")
	resources = flag.Int("resources", 10, "resources, among which the keys are shared out")
	puts      = flag.Int("puts", 5, "puts to measure")
	all       = flag.String("all", "500", "numbers of keys for the template over all services, comma-separated")
	rounds    = flag.Int("rounds", 2, "rounds, of which the median counts")
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		proctest.Clean()
		os.Exit(code)
	}))
}

// A candidate is a confd to measure.
type candidate struct {
	name, binary string
	flags        []string // of -watch
}

// candidates are ours and the other, if there is one.
func candidates(t *testing.T) []candidate {
	ours := proctest.Build(t, "muster/cmd/confd")
	list := []candidate{{"ours", ours, nil}, {"ours -debounce 0", ours, []string{"-debounce", "0"}}}
	if other := os.Getenv("CONFD_BINARY"); other != "" {
		list = append(list, candidate{"other", other, nil})
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

// TestPutToFile follows puts, one at a time, each in the keys of another
// resource. The other confd has no quiet time: it compares with -debounce 0.
func TestPutToFile(t *testing.T) {
	server := etcdtest.Start(t)
	client := server.Client()
	fill(t, client, *keys, key)
	t.Logf("%d keys, %d resources, %d puts in each of %d rounds", *keys, *resources, *puts, *rounds)
	all := candidates(t)
	var plain samples
	p50, p99, used := make(table), make(table), make(table)
	for round := range *rounds {
		plain = append(plain, quantile(watched(t, client), 0.5))
		for _, c := range all {
			times, cpu := follow(t, client, c, round, func(dir string) []string {
				return append(args(server, dir, "-watch"), c.flags...)
			})
			p50.add(c.name, quantile(times, 0.5))
			p99.add(c.name, quantile(times, 0.99))
			used.add(c.name, cpu)
		}
	}
	t.Logf("  %-18s p50 %s", "etcd, put to event", plain.median())
	for _, c := range all {
		t.Logf("  %-18s p50 %s  p99 %s  CPU %s a put", c.name, p50[c.name].median(), p99[c.name].median(), used[c.name].median())
	}
	p50.compare(t, "p50", "ours -debounce 0")
	used.compare(t, "CPU", "ours -debounce 0")
}

// follow runs c and says how long each put took to its file, and c's CPU for one.
func follow(t *testing.T, client *clientv3.Client, c candidate, round int, args func(dir string) []string) (times samples, used time.Duration) {
	dir := confdir(t)
	confd := proctest.Start(t, c.name, nil, c.binary, args(dir)...)
	file := func(r int) string { return fmt.Sprintf("%s/out/%03d", dir, r) }
	for r := range *resources {
		proctest.Eventually(t, "the first files", func() bool { _, err := os.Stat(file(r)); return err == nil })
	}
	start := cpu(t, confd.Pid())
	for i := range *puts {
		value := fmt.Sprintf("put-%d-%d-%s", round, i, c.name)
		r := i % *resources
		from := time.Now()
		if _, err := client.Put(t.Context(), key(r), value); err != nil {
			t.Fatal(err)
		}
		for {
			text, err := os.ReadFile(file(r))
			if err == nil && strings.Contains(string(text), "server "+value+";") {
				break
			}
			if time.Since(from) > proctest.Patience {
				t.Fatalf("put %d never came to the file", i)
			}
			time.Sleep(100 * time.Microsecond)
		}
		times = append(times, time.Since(from))
	}
	used = (cpu(t, confd.Pid()) - start) / time.Duration(*puts)
	confd.Signal(syscall.SIGTERM)
	confd.Wait()
	return times, used
}

// watched is how long etcd itself takes to tell a watcher of a put.
func watched(t *testing.T, client *clientv3.Client) (times samples) {
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

// TestOnetime measures one pass over all resources: the first, and one that finds
// every file in sync.
func TestOnetime(t *testing.T) {
	server := etcdtest.Start(t)
	fill(t, server.Client(), *keys, key)
	t.Logf("%d keys, %d resources, %d rounds", *keys, *resources, *rounds)
	readAll(t, server.Client(), "/r/")
	measure(t, func() []string { return args(server, confdir(t), "-onetime") })
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
		t.Logf("%d keys, all services in one template, %d rounds", n, *rounds)
		readAll(t, server.Client(), "/services/")
		measure(t, func() []string {
			dir := t.TempDir()
			write(t, dir+"/conf.d/r.toml", "[template]\nsrc = 't'\ndest = '"+dir+"/out'\nkeys = ['/services']\n")
			write(t, dir+"/templates/t", "{{range $s := ls \"/services\"}}upstream {{$s}} {\n{{range getvs (printf \"/services/%s/*\" $s)}}  server {{.}};\n{{end}}}\n{{end}}")
			return args(server, dir, "-onetime")
		})
	}
}

// readAll says what it takes to read the keys with etcd's client alone.
func readAll(t *testing.T, client *clientv3.Client, prefix string) {
	t.Helper()
	var times samples
	for range *rounds {
		start := time.Now()
		if _, err := client.Get(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	t.Logf("  %-18s wall %s", "etcd, plain read", times.median())
}

// measure runs each confd in rounds and says what it took; args makes a new
// folder, in which it runs twice.
func measure(t *testing.T, args func() []string) {
	t.Helper()
	all := slices.DeleteFunc(candidates(t), func(c candidate) bool { return c.flags != nil })
	for _, pass := range []string{"first", "in sync"} {
		wall, used := make(table), make(table)
		for range *rounds {
			for _, c := range all {
				line := args()
				if pass == "in sync" {
					run(t, c, line)
				}
				w, u := run(t, c, line)
				wall.add(c.name, w)
				used.add(c.name, u)
			}
		}
		for _, c := range all {
			t.Logf("  %-18s wall %s  CPU %s", c.name+", "+pass, wall[c.name].median(), used[c.name].median())
		}
		wall.compare(t, "wall", "ours")
		used.compare(t, "CPU", "ours")
	}
}

func run(t *testing.T, c candidate, args []string) (wall, used time.Duration) {
	t.Helper()
	cmd := exec.Command(c.binary, args...)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", c.name, err, out)
	}
	return time.Since(start), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// samples are times of the same thing.
type samples []time.Duration

func (s samples) median() time.Duration { return quantile(s, 0.5) }

func quantile(s samples, q float64) time.Duration {
	s = slices.Sorted(slices.Values(s))
	return s[min(len(s)-1, int(q*float64(len(s))))].Round(10 * time.Microsecond)
}

// A table has the samples of each candidate, one a round.
type table map[string]samples

func (b table) add(name string, d time.Duration) { b[name] = append(b[name], d) }

// compare sets ours against the other, round by round.
func (b table) compare(t *testing.T, what, ours string) {
	t.Helper()
	if len(b["other"]) == 0 {
		return
	}
	ratios, better := make([]float64, *rounds), 0
	for i := range ratios {
		ratios[i] = float64(b[ours][i]) / float64(b["other"][i])
		if ratios[i] < 1 {
			better++
		}
	}
	slices.Sort(ratios)
	t.Logf("    %s: %.2f of the other's (median of the rounds), less in %d of %d", what, ratios[len(ratios)/2], better, *rounds)
}
