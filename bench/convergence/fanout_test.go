package convergence

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"muster/backends/etcd"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

var watchers = flag.Int("watchers", 100, "watchers behind two of etcd's grpc-proxies")

// TestFanOut is many balancers' watches behind two grpc-proxies: T19. Every
// watcher gets every put, in order and once.
func TestFanOut(t *testing.T) {
	server := etcdtest.Start(t)
	proxies := []*etcdtest.GRPCProxy{
		etcdtest.StartGRPCProxy(t, []*etcdtest.Server{server}), etcdtest.StartGRPCProxy(t, []*etcdtest.Server{server}),
	}
	put(t, server.Client(), "/services/web/1", "0")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop() // before wg.Wait
	const connections = 40
	var stores []*etcd.Store
	for i := range connections {
		s, err := etcd.Open("etcd://"+proxies[i%2].Addr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { wg.Wait(); s.Close() }()
		defer stop()
		stores = append(stores, s)
	}
	type seen struct {
		value int
		at    time.Time
	}
	news := make(chan seen, *watchers)
	for i := range *watchers {
		wg.Go(func() {
			last := -1
			for c, err := range stores[i%connections].Watch(ctx, []string{"/services", "/services.meta"}) {
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Errorf("watcher %d: %v", i, err)
					continue
				}
				for _, kv := range c.Put {
					value, _ := strconv.Atoi(kv.Value)
					if value != last+1 {
						t.Errorf("watcher %d: got %d after %d", i, value, last)
					}
					last = value
					select {
					case news <- seen{value, time.Now()}:
					case <-ctx.Done():
						return
					}
				}
			}
		})
	}
	everyone := func(value int, each func(time.Time)) {
		t.Helper()
		patience := time.After(proctest.Patience)
		for n := range *watchers {
			select {
			case s := <-news:
				if s.value != value {
					t.Fatalf("a watcher got %d, want %d", s.value, value)
				}
				each(s.at)
			case <-patience:
				t.Fatalf("%d of %d watchers were told of put %d", n, *watchers, value)
			}
		}
	}
	everyone(0, func(time.Time) {})
	var all, last sample
	etcdBefore, proxyBefore := processorTime(t, server.Pid()), processorTime(t, proxies[0].Pid())+processorTime(t, proxies[1].Pid())
	for i := range *puts {
		start := time.Now()
		put(t, server.Client(), "/services/web/1", strconv.Itoa(i+1))
		var latest time.Duration
		everyone(i+1, func(at time.Time) {
			all = append(all, at.Sub(start))
			latest = max(latest, at.Sub(start))
		})
		last = append(last, latest)
	}
	n := time.Duration(*puts)
	etcdCPU := (processorTime(t, server.Pid()) - etcdBefore) / n
	proxyCPU := (processorTime(t, proxies[0].Pid()) + processorTime(t, proxies[1].Pid()) - proxyBefore) / n
	what := fmt.Sprintf("%d watchers behind two grpc-proxies", *watchers)
	tell(row{"T19", what + ": put to the last one told, 0 missed", last.String(), "each: " + all.String(), "p50 90ms", met(last.quantile(0.5), 90*time.Millisecond)})
	tell(row{"T19", fmt.Sprintf("etcd's CPU for one put (the proxies': %v)", proxyCPU.Round(10*time.Microsecond)), etcdCPU.Round(10 * time.Microsecond).String(), "", "3ms", met(etcdCPU, 3*time.Millisecond)})
}
