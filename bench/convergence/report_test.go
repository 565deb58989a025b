package convergence

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// A row is one line of the table that is printed at the end: what was measured
// here, beside the target and what others need for the same.
type row struct {
	number string // of the target, T1 …
	what   string
	ours   string
	etcd   string // its own put → watch event, in the same run
	target string
	met    string // yes, no or "" where there is nothing to compare
}

var report struct {
	sync.Mutex
	rows []row
}

// tell adds a row.
func tell(r row) {
	report.Lock()
	defer report.Unlock()
	report.rows = append(report.rows, r)
}

// peers are what others needed for the same on a machine of this kind, measured
// once with the real programs; they are not run here.
var peers = []struct{ number, figure string }{
	{"T1 T4", "fabio 1.7.3 and consul, few services: p50 3.7 ms, max 9.7 ms; withdrawn 3.1 ms. With 1,000 services: 480 ms, 584 ms"},
	{"T1", "traefik 3 and etcd: p50 1.71 s, max 1.81 s as it comes; 73 ms, 260 ms with its throttle off"},
	{"T2", "traefik 3 and etcd, 2,000 routers, throttle off: p50 132 ms, max 275 ms; none was tried with 100,000 endpoints"},
	{"T5", "confd -watch: p50 4.1 ms with 1 key, 85 ms with 10,000; confd -interval 5: 4.7 s; consul-template 5.4 ms"},
	{"T8", "registrator without -ttl: never"},
	{"T16", "confd -watch: renders once per event"},
	{"T17", "a process that holds one etcd lease and one watch: 16 MB"},
	{"T19", "1,000 watchers on one etcd 3.6: last told 36 ms p50, 36 ms of CPU per put; behind one grpc-proxy 80 ms p99, 2.5 ms of CPU"},
}

func printReport() {
	if len(report.rows) == 0 {
		return
	}
	slices.SortStableFunc(report.rows, func(a, b row) int {
		return strings.Compare(fmt.Sprintf("%3s", a.number[1:]), fmt.Sprintf("%3s", b.number[1:]))
	})
	fmt.Printf("\nTimes against their targets; load average before: %s, after: %s\n", loadBefore, load())
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\twhat\tmeasured\tetcd's own put to event\ttarget\tmet")
	for _, r := range report.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.number, r.what, r.ours, r.etcd, r.target, r.met)
	}
	w.Flush()
	fmt.Println("\nOthers, measured on this kind of machine (2 cores, etcd 3.6.16, 10 to 30 rounds), not in this run:")
	w = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, p := range peers {
		fmt.Fprintf(w, "%s\t%s\n", p.number, p.figure)
	}
	w.Flush()
}

var loadBefore = load()

// load is how many processes want to run, of the last minute; "?" where the
// system does not tell.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// met compares what was measured with a target.
func met[N int64 | float64 | time.Duration](value, target N) string {
	if value <= target {
		return "yes"
	}
	return "no"
}

// A sample is many durations of one thing.
type sample []time.Duration

func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Microsecond)
}

func (s sample) String() string {
	return fmt.Sprintf("p50 %v p99 %v", s.quantile(0.5), s.quantile(0.99))
}

// within is met for two quantiles of a sample; a target of zero is none.
func (s sample) within(p50, p99 time.Duration) string {
	if p50 > 0 && s.quantile(0.5) > p50 {
		return "no"
	}
	return met(s.quantile(0.99), p99)
}

func TestQuantile(t *testing.T) {
	var s sample
	for i := range 100 {
		s = append(s, time.Duration(100-i)*time.Millisecond)
	}
	if p50, p99 := s.quantile(0.5), s.quantile(0.99); p50 != 51*time.Millisecond || p99 != 100*time.Millisecond {
		t.Errorf("of 1 to 100 ms: p50 %v p99 %v", p50, p99)
	}
}
