package soak_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"muster/internal/proctest"
	"muster/proxy/drivertest/smuggling"
)

// A soak is what clients and origins have in common.
type soak struct {
	addr     string
	messages []func(id string) string // hostile ones

	mu      sync.Mutex
	answers map[string]int // kind and status → how often
	faults  []string
	nth     int // of all faults; not all are kept
	posts   map[string]bool

	requests atomic.Int64
	log      accessLog
}

func (s *soak) wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nth++; len(s.faults) < 50 {
		s.faults = append(s.faults, fmt.Sprintf(format, args...))
	}
}

func (s *soak) count(kind string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[fmt.Sprintf("%s %d", kind, status)]++
}

// saw is called by an origin for each request. A POST may come once, and what is
// inside of another message never.
func (s *soak) saw(req *http.Request) {
	s.requests.Add(1)
	if strings.Contains(req.RequestURI, "/hidden-") {
		s.wrong("an origin saw %s %s", req.Method, req.RequestURI)
	}
	if id := req.Header.Get("X-Soak"); req.Method == http.MethodPost && strings.HasPrefix(id, "valid-") {
		s.mu.Lock()
		again := s.posts[id]
		s.posts[id] = true
		s.mu.Unlock()
		if again {
			s.wrong("an origin saw POST %s twice", id)
		}
	}
}

// file is muster's. Times are short, so that what nobody ends ends soon, but not
// so short that a slow machine ends what is valid.
func file(listen string, endpoints ...string) string {
	return fmt.Sprintf(`
[[listener]]
bind    = %q
timeout = { header = "10s", body = "10s", idle = "10s" }
trusted = ["127.0.0.1"]
[defaults]
timeout = { response = "10s" }
[log]
access = "json"
[service.web]
endpoints = ["%s"]
`, listen, strings.Join(endpoints, `", "`))
}

// A sample is what the process says of itself.
type sample struct{ rss, goroutines, fds, panics, inFlight, cpu, turnedAway, notAccepted float64 }

func scrape(t *testing.T, admin string) sample {
	t.Helper()
	res, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) (sum float64) {
		if families[name] == nil {
			t.Fatalf("/metrics has no %s", name)
		}
		for _, m := range families[name].GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		return sum
	}
	return sample{
		value("process_resident_memory_bytes"), value("go_goroutines"), value("process_open_fds"), value("muster_panics_total"), value("muster_in_flight"),
		value("process_cpu_seconds_total"), value("muster_turned_away_total"), value("muster_accept_errors_total"),
	}
}

func (s sample) String() string {
	return fmt.Sprintf("%.1f MB, %.0f goroutines, %.0f descriptors", s.rss/1e6, s.goroutines, s.fds)
}

// Every answer is the answer to its request, whoever else does whatever beside
// it, and nothing grows.
func TestSoak(t *testing.T) {
	t.Logf("-seed %d -for %v", *seed, *duration)
	s := &soak{
		addr: proctest.FreeAddr(t), messages: smuggling.Messages(40),
		answers: make(map[string]int), posts: make(map[string]bool),
	}
	origins := []*origin{newOrigin(t, s), newOrigin(t, s), newOrigin(t, s)}
	admin := proctest.FreeAddr(t)
	path := filepath.Join(t.TempDir(), "muster.toml")
	write := func(endpoints ...string) {
		if err := os.WriteFile(path, []byte(file(s.addr, endpoints...)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(origins[0].addr, origins[1].addr)
	p := proctest.Start(t, "muster", nil, "/bin/sh", "-c", `exec "$@" >"$0"`, s.log.open(t), proctest.Build(t, "muster/cmd/muster"),
		"proxy", "-store", "none", "-config", path, "-default", "web", "-admin", admin, "-log", "error", "-state", t.TempDir())
	ready(t, admin)
	before := scrape(t, admin)

	end := time.Now().Add(*duration)
	var traffic sync.WaitGroup
	for name, kind := range map[string]struct {
		clients int
		do      func(*client)
	}{
		"valid": {12, (*client).valid}, "aborting": {6, (*client).aborting}, "hostile": {40, (*client).hostile},
	} {
		for i := range kind.clients {
			c := &client{soak: s, name: fmt.Sprintf("%s-%d", name, i), rnd: rand.New(rand.NewPCG(*seed, uint64(i)<<8|uint64(name[0])))}
			traffic.Go(func() {
				for time.Now().Before(end) {
					kind.do(c)
				}
			})
		}
	}

	// The fleet changes meanwhile: one endpoint stays, the others come and go.
	var samples []sample
	for n := 0; time.Now().Before(end); n++ {
		time.Sleep(min(time.Second, time.Until(end)))
		write(slices.Insert([]string{origins[0].addr}, n%2, origins[1+n%2].addr)...)
		p.Signal(syscall.SIGHUP)
		samples = append(samples, scrape(t, admin))
	}
	traffic.Wait()
	http.DefaultClient.CloseIdleConnections()

	for _, o := range origins {
		o.close()
	}
	var after sample
	proctest.Eventually(t, "all that it opened is closed", func() bool {
		after = scrape(t, admin)
		return after.inFlight == 0 && after.fds <= before.fds+1 && after.goroutines <= before.goroutines+2
	})

	for _, kind := range slices.Sorted(maps.Keys(s.answers)) {
		t.Logf("%8d %s", s.answers[kind], kind)
	}
	t.Logf("the origins saw %d requests", s.requests.Load())
	t.Logf("before: %v; afterwards: %v", before, after)
	for _, fault := range s.faults {
		t.Error(fault)
	}
	if s.nth > 0 {
		t.Errorf("%d wrong answers", s.nth)
	}
	if after.panics > 0 {
		t.Errorf("muster_panics_total is %v", after.panics)
	}
	for _, kind := range kinds {
		r := request{kind: kind}
		status, _ := r.expected()
		if s.answers[kind+" "+strconv.Itoa(status)] == 0 {
			t.Errorf("no %s was answered with %d", kind, status)
		}
	}
	flat(t, samples)
}

// flat compares the last third of the samples with the one before. The first
// third is when memory is found that is used again from then on.
func flat(t *testing.T, samples []sample) {
	third := len(samples) / 3
	if third < 20 {
		t.Logf("too short to say whether memory is flat: %d samples", len(samples))
		return
	}
	most := func(of []sample, f func(sample) float64) (m float64) {
		for _, s := range of {
			m = max(m, f(s))
		}
		return m
	}
	for name, f := range map[string]struct {
		of    func(sample) float64
		slack float64
	}{
		"resident bytes": {func(s sample) float64 { return s.rss }, 8e6},
		"goroutines":     {func(s sample) float64 { return s.goroutines }, 20},
		"descriptors":    {func(s sample) float64 { return s.fds }, 20},
	} {
		middle, last := most(samples[third:2*third], f.of), most(samples[2*third:], f.of)
		t.Logf("%s: at most %.0f in the second third, %.0f in the last", name, middle, last)
		if last > middle*1.2+f.slack {
			t.Errorf("%s grew: %.0f in the last third, %.0f before", name, last, middle)
		}
	}
}
