// Package scale measures what a balancer's control side costs with 100,000
// endpoints, without a store: the first snapshot, and one change after it, from
// the keys to the proxy's table.
//
//	go test ./bench/scale -run '^$' -bench . -benchmem
//
// The tests beside it hold the counts and states; bench/convergence measures the
// same with real processes.
package scale

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"muster/backends"
	"muster/catalog"
	"muster/config"
	"muster/discovery"
	"muster/proxy"
)

// The fleet: 1,000 services of 100 endpoints, each with metadata and a route.
const (
	services  = 1000
	endpoints = 100
)

// keys are those of endpoint e of service s, at a revision.
func keys(s, e int, weight int, revision int64) (plain, meta backends.KV) {
	name, id := fmt.Sprintf("svc-%04d", s), fmt.Sprintf("10.%d.%d.%d:8080", s/250, s%250, e)
	kv := func(key, value string) backends.KV {
		return backends.KV{Key: key, Value: value, Created: revision, Modified: revision, Lease: int64(1 + e)}
	}
	return kv("/services/"+name+"/"+id, id), kv("/services.meta/"+name+"/"+id, fmt.Sprintf(
		`{"v":1,"addr":%q,"weight":%d,"zone":"a","version":"1.4.2","routes":["%s.test/"],"state":"up","started":"2026-01-02T03:04:05Z","host":"node%d"}`,
		id, weight, name, e))
}

// full is a list of the fleet, as a store sends it: by key.
func full(services, endpoints int) backends.Change {
	plain := make([]backends.KV, 0, services*endpoints*2)
	meta := make([]backends.KV, 0, services*endpoints)
	revision := int64(1)
	for s := range services {
		for e := range endpoints {
			p, m := keys(s, e, 100, revision)
			plain, meta = append(plain, p), append(meta, m)
			revision++
		}
	}
	return backends.Change{Revision: revision, Full: true, Put: append(meta, plain...)}
}

// A fleet is the control side of a balancer, as cmd/muster puts it together.
type fleet struct {
	snapshot *catalog.Snapshot
	planner  config.Planner
	proxy    *proxy.Proxy
}

func newFleet() *fleet {
	return &fleet{snapshot: catalog.New(catalog.DefaultPrefix), proxy: proxy.New(proxy.Config{})}
}

// take is the whole way of a Change, from the keys to the table.
func (f *fleet) take(c backends.Change) {
	f.snapshot = f.snapshot.Apply(c)
	plan, _ := f.planner.Plan(nil, config.Flags{}, f.snapshot)
	f.proxy.Update(plan)
}

// reweigh is a Change of one endpoint's metadata.
func reweigh(n int) backends.Change {
	_, meta := keys(n%services, n%endpoints, 1+n%1000, int64(1_000_000+n))
	return backends.Change{Revision: meta.Modified, Put: []backends.KV{meta}}
}

// toggle is a Change by which one endpoint leaves, or comes.
func toggle(n int) backends.Change {
	plain, meta := keys(services/2, endpoints/2, 100, int64(1_000_000+n))
	if n%2 == 0 {
		return backends.Change{Revision: plain.Modified, Deleted: []string{meta.Key, plain.Key}}
	}
	return backends.Change{Revision: plain.Modified, Put: []backends.KV{meta, plain}}
}

// Everything arrives: as many services, endpoints and routes as were announced,
// after the list and after changes; and a second list of the same changes nothing.
func TestFleet(t *testing.T) {
	c := full(50, 20)
	f := newFleet()
	f.take(c)
	want := func(what string, endpoints, weight int) {
		t.Helper()
		st := f.proxy.Status()
		n, sum := 0, 0
		for _, s := range st.Services {
			if !s.Exposed {
				t.Errorf("%s: %s is not exposed", what, s.Name)
			}
			for _, u := range s.Upstreams {
				n++
				sum += u.Weight
				if u.State != "up" {
					t.Errorf("%s: %s %s is %s, want it up", what, s.Name, u.ID, u.State)
				}
			}
		}
		if len(st.Services) != 50 || len(st.Routes) != 50 || n != endpoints || sum != weight {
			t.Errorf("%s: %d services, %d routes, %d endpoints, weight %d; want 50, 50, %d, %d", what, len(st.Services), len(st.Routes), n, sum, endpoints, weight)
		}
	}
	want("listed", 1000, 100_000)
	before := f.snapshot
	f.take(c)
	for s := range f.snapshot.All() {
		if s != before.Service(s.Name) {
			t.Errorf("%s is another after the same list", s.Name)
		}
	}
	want("listed again", 1000, 100_000)
	_, meta := keys(7, 3, 50, 2_000_000)
	f.take(backends.Change{Revision: 2_000_000, Put: []backends.KV{meta}})
	want("one has half its weight", 1000, 99_950)
	plain, meta := keys(8, 4, 0, 0)
	f.take(backends.Change{Revision: 2_000_001, Deleted: []string{meta.Key, plain.Key}})
	want("another has left", 999, 99_850)
}

// cpu reports, when the benchmark ends, the processor time of an operation
// beside the wall clock's, which says little on a machine that does other
// things. It counts all goroutines, and the collector.
func cpu(b *testing.B) func() {
	b.ReportAllocs()
	before := processorTime(b)
	return func() { b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op") }
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkFirstSnapshot(b *testing.B) {
	c := full(services, endpoints)
	defer cpu(b)()
	for b.Loop() {
		newFleet().take(c)
	}
}

// BenchmarkListedAgain is what a Full Change after a break costs, in which
// nothing has changed.
func BenchmarkListedAgain(b *testing.B) {
	c, f := full(services, endpoints), newFleet()
	f.take(c)
	defer cpu(b)()
	for b.Loop() {
		f.take(c)
	}
}

// A list is a store that tells all keys, or is away, and then is silent.
type list struct{ full *backends.Change }

func (l list) Watch(ctx context.Context, _ []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		if l.full != nil && !yield(*l.full, nil) {
			return
		}
		<-ctx.Done()
	}
}

func (list) Close() error { return nil }

// follow runs a watcher of s with a file on the disk until it knows something.
func follow(b *testing.B, s backends.Store, file string) *catalog.Snapshot {
	w := discovery.New(discovery.Config{Store: s, Disk: file, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	known, err := w.Next(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	cancel()
	wg.Wait()
	return known
}

// BenchmarkFromDisk is a start while the store is away.
func BenchmarkFromDisk(b *testing.B) {
	file := filepath.Join(b.TempDir(), "snapshot")
	c := full(services, endpoints)
	follow(b, list{&c}, file) // writes it when it ends
	c = backends.Change{}
	runtime.GC()
	defer cpu(b)()
	for b.Loop() {
		f := newFleet()
		f.snapshot = follow(b, list{}, file)
		plan, _ := f.planner.Plan(nil, config.Flags{Loaded: true}, f.snapshot)
		f.proxy.Update(plan)
	}
}

func BenchmarkOneChange(b *testing.B) {
	f := newFleet()
	f.take(full(services, endpoints))
	for _, bb := range []struct {
		name   string
		change func(int) backends.Change
	}{{"weight", reweigh}, {"leaves-comes", toggle}} {
		b.Run(bb.name, func(b *testing.B) {
			defer cpu(b)()
			for n := 0; b.Loop(); n++ {
				f.take(bb.change(n))
			}
		})
	}
}

// BenchmarkThousandChanges is one Change that touches every service.
func BenchmarkThousandChanges(b *testing.B) {
	f := newFleet()
	f.take(full(services, endpoints))
	defer cpu(b)()
	for n := 0; b.Loop(); n++ {
		c := backends.Change{Revision: int64(1_000_000 + n)}
		for i := range services {
			_, meta := keys(i, n%endpoints, 1+n%1000, c.Revision)
			c.Put = append(c.Put, meta)
		}
		f.take(c)
	}
}

func BenchmarkStatus(b *testing.B) {
	f := newFleet()
	f.take(full(services, endpoints))
	defer cpu(b)()
	for b.Loop() {
		if st := f.proxy.Status(); len(st.Services) != services {
			b.Fatalf("%d services, want %d", len(st.Services), services)
		}
	}
}

func BenchmarkOverview(b *testing.B) {
	f := newFleet()
	f.take(full(services, endpoints))
	defer cpu(b)()
	for b.Loop() {
		if st := f.proxy.Overview(2000); len(st.Services) != services {
			b.Fatalf("%d services, want %d", len(st.Services), services)
		}
	}
}

func BenchmarkMetrics(b *testing.B) {
	f := newFleet()
	f.take(full(services, endpoints))
	registry := prometheus.NewRegistry()
	registry.MustRegister(f.proxy)
	defer cpu(b)()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory reports the heap that one endpoint costs.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		f := newFleet()
		f.take(full(services, endpoints))
		b.ReportMetric(float64(heap()-before)/services/endpoints, "B/endpoint")
		runtime.KeepAlive(f)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
