package convergence

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// A fleet is many services in etcd, of 100 endpoints each, with metadata and a
// route. Nothing listens there.
type fleet struct {
	client    *clientv3.Client
	endpoints int
}

const perService = 100

// keys are those of the n-th endpoint of all.
func (f *fleet) keys(kind string, n, weight int) (plain, meta, addr, text string) {
	name := fmt.Sprintf("%s-%04d", kind, n/perService)
	addr = fmt.Sprintf("10.%d.%d.%d:8080", n/perService/250, n/perService%250, n%perService)
	id := name + "/" + addr
	text = fmt.Sprintf(`{"v":1,"addr":%q,"weight":%d,"zone":"a","version":"1.4.2","routes":["%s.test/"],"state":"up","started":"2026-01-02T03:04:05Z","host":"node%d"}`,
		addr, weight, name, n%perService)
	return "/services/" + id, "/services.meta/" + id, addr, text
}

// announce puts endpoints from up to to, 50 in a transaction.
func (f *fleet) announce(t *testing.T, kind string, from, to int) {
	t.Helper()
	for at := from; at < to; at += 50 {
		var ops []clientv3.Op
		for n := at; n < min(at+50, to); n++ {
			plain, meta, addr, text := f.keys(kind, n, 100)
			ops = append(ops, clientv3.OpPut(plain, addr), clientv3.OpPut(meta, text))
		}
		if _, err := f.client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// list is how long etcd takes to tell all keys of both trees, 10,000 at a time,
// as a balancer asks for them.
func (f *fleet) list(t *testing.T) (took time.Duration, keys int) {
	t.Helper()
	start := time.Now()
	from, revision := "/services", int64(0)
	for {
		resp, err := f.client.Get(t.Context(), from, clientv3.WithRange("/services0"), clientv3.WithLimit(10_000), clientv3.WithRev(revision))
		if err != nil {
			t.Fatal(err)
		}
		keys += len(resp.Kvs)
		if !resp.More {
			return time.Since(start), keys
		}
		from, revision = string(resp.Kvs[len(resp.Kvs)-1].Key)+"\x00", resp.Header.Revision
	}
}

// churn changes the weight of endpoints in the first services, so often a
// second, whether or not etcd has answered the one before, until ctx ends. It
// returns the last weight of each.
func (f *fleet) churn(t *testing.T, ctx context.Context, rate int) map[string]int {
	weights := make(map[string]int)
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, 200)
	begin := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		// No key twice among the 200 that may be under way: etcd could take
		// them the other way round.
		n, weight := i%min(f.endpoints, listed), 1+rand.IntN(1000)
		_, meta, addr, text := f.keys("svc", n, weight)
		weights[fmt.Sprintf("svc-%04d %s", n/perService, addr)] = weight
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if _, err := f.client.Put(context.WithoutCancel(ctx), meta, text); err != nil {
				t.Error(err)
			}
		})
	}
	return weights
}

// listed is how many endpoints the status page lists one by one.
const listed = 1900

// A balancer is a real "muster proxy".
type balancer struct {
	*proctest.Proc
	listen, admin string
}

func startBalancer(t *testing.T, store string, env ...string) *balancer {
	return startBalancerIn(t, t.TempDir(), store, env...)
}

// startBalancerIn starts one with a state folder.
func startBalancerIn(t *testing.T, state, store string, env ...string) *balancer {
	b := &balancer{listen: proctest.FreeAddr(t)}
	b.Proc = proctest.Start(t, "balancer", env, proctest.Build(t, "muster/cmd/muster"), "proxy",
		"-listen", b.listen, "-admin", "127.0.0.1:0", "-state", state, "-store", "etcd://"+store, "-config", noAccessLog(t))
	b.admin = "http://" + b.Value(`msg="admin listening"`, "addr")
	return b
}

// An apiStatus is the part of /api/v1/status that is asked here.
type apiStatus struct {
	Store struct {
		Revision        int64
		Errors, Resyncs uint64
	}
	Omitted  int
	Services []struct {
		Name, Summary string
		Exposed       bool
		Endpoints     []struct {
			ID     string
			Weight int
		}
	}
}

func (b *balancer) status(t *testing.T) (s apiStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(fetch(t, b.admin+"/api/v1/status")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// waitFor waits until the balancer knows so many services and endpoints, all of
// them exposed.
func (b *balancer) waitFor(t *testing.T, services, endpoints int) apiStatus {
	t.Helper()
	var s apiStatus
	proctest.Eventually(t, fmt.Sprintf("%d services and %d endpoints, exposed", services, endpoints), func() bool {
		s = b.status(t)
		n := s.Omitted
		for _, svc := range s.Services {
			if !svc.Exposed {
				return false
			}
			n += len(svc.Endpoints)
		}
		return len(s.Services) == services && n == endpoints
	})
	return s
}

// TestScale is a balancer with very many endpoints: T2, T3, T16, T18, and the
// first snapshot.
func TestScale(t *testing.T) {
	etcd := etcdtest.Start(t)
	f := &fleet{client: etcd.Client(), endpoints: *endpoints}
	f.announce(t, "svc", 0, f.endpoints)
	m := newMoving(t, f.client)
	services := (f.endpoints + perService - 1) / perService
	size := fmt.Sprintf("%d endpoints", f.endpoints)

	proctest.Build(t, "muster/cmd/muster")
	f.list(t) // warms etcd up
	list, keys := f.list(t)
	if keys != 2*f.endpoints+2 {
		t.Fatalf("%d keys in etcd, want %d", keys, 2*f.endpoints+2)
	}
	start := time.Now()
	state := t.TempDir()
	b := startBalancerIn(t, state, etcd.Addr())
	c := dial(t, b.listen, movingHost)
	proctest.Eventually(t, "the first answer", func() bool { status, who := c.ask(t); return status == http.StatusOK && who == "1" })
	first := time.Since(start)
	cpu := processorTime(t, b.Pid())
	tell(row{"T18", size + ": start to first routed request (" + cpu.String() + " of CPU)", first.Round(time.Millisecond).String(), "list " + list.Round(time.Millisecond).String(), "list + 1 s", met(first-list, time.Second)})
	b.waitFor(t, services+1, f.endpoints+1)
	now, most := memory(t, b.Pid())
	tell(row{"T18", size + ": RSS when all are known", fmt.Sprintf("%.0f MB, at most %.0f", now, most), "", "150 MB", met(now, 150)})

	quiet := m.measure(t, c, *puts)
	tell(row{"T2", size + ": put to first routed request", quiet.routed.String(), quiet.etcd.String(), "p50 4ms p99 25ms", quiet.routed.within(4*time.Millisecond, 25*time.Millisecond)})

	// A storm of changes to others: what is asked is still answered in time, and
	// nothing is lost. What it costs is measured while nobody asks.
	before := b.status(t).Store
	calm, stop := context.WithCancel(t.Context())
	weights := make(chan map[string]int)
	go func() { weights <- f.churn(t, calm, *rate) }()
	busy := m.measure(t, c, *puts)
	stop()
	b.hasWeights(t, <-weights)
	tell(row{"T3", fmt.Sprintf("the same while %d others change each second", *rate), busy.routed.String(), busy.etcd.String(), "p99 50ms", busy.routed.within(0, 50*time.Millisecond)})
	calm, stop = context.WithTimeout(t.Context(), *churnFor)
	defer stop()
	start, cpu = time.Now(), processorTime(t, b.Pid())
	want := f.churn(t, calm, *rate)
	share := float64(processorTime(t, b.Pid())-cpu) / float64(time.Since(start)) * 100
	tell(row{"T18", fmt.Sprintf("CPU at %d changes a second", *rate), fmt.Sprintf("%.1f %% of a core", share), "", "15 %", met(share, 15)})
	b.hasWeights(t, want)
	s := b.waitFor(t, services+1, f.endpoints+1)
	if s.Store.Errors != before.Errors || s.Store.Resyncs != before.Resyncs {
		t.Errorf("the watch broke %d times and was listed again %d times, want never", s.Store.Errors-before.Errors, s.Store.Resyncs-before.Resyncs)
	}
	now, most = memory(t, b.Pid())
	tell(row{"T18", "RSS after that", fmt.Sprintf("%.0f MB, at most %.0f", now, most), "", "150 MB", met(now, 150)})

	// Many come at once. The last of them is the one that is asked for.
	lag, took := f.flood(t, b, *flood)
	tell(row{"T16", fmt.Sprintf("%d puts in %v: last put to routed", *flood, took.Round(time.Millisecond)), lag.Round(10 * time.Microsecond).String(), "", "500ms", met(lag, 500*time.Millisecond)})
	b.waitFor(t, services+2+(*flood/2+perService-1)/perService, f.endpoints+2+*flood/2)

	// Being looked at costs no memory that stays.
	if text := fetch(t, b.admin+"/metrics"); !strings.Contains(text, fmt.Sprintf(`muster_endpoints{service="svc-0000",state="up"} %d`, min(perService, f.endpoints))) {
		t.Errorf("no count of svc-0000's endpoints in %d bytes of metrics", len(text))
	}
	now, most = memory(t, b.Pid())
	tell(row{"T18", "RSS after a flood and a scrape", fmt.Sprintf("%.0f MB, at most %.0f", now, most), "", "150 MB", met(now, 150)})

	// The next one starts without etcd.
	b.Signal(syscall.SIGTERM)
	b.Wait()
	etcd.Kill()
	fromDisk(t, state, etcd.Addr(), f.endpoints+*flood/2)
}

// fromDisk is T15: a balancer starts while etcd is away, with what the one before
// has kept.
func fromDisk(t *testing.T, state, store string, endpoints int) {
	const starts = 5
	var took sample
	var cpu time.Duration
	for range starts {
		start := time.Now()
		b := startBalancerIn(t, state, store)
		c := dial(t, b.listen, movingHost)
		for status := 0; status != http.StatusOK; status, _ = c.ask(t) {
			if time.Since(start) > proctest.Patience {
				t.Fatal("a balancer with a snapshot on the disk did not route")
			}
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(start))
		cpu += processorTime(t, b.Pid())
		b.Signal(syscall.SIGKILL)
		b.Wait()
	}
	tell(row{
		"T15", fmt.Sprintf("%d endpoints on the disk, no etcd: start to first routed request (%v of CPU)", endpoints, (cpu / starts).Round(time.Millisecond)),
		fmt.Sprintf("min %v p50 %v", slices.Min(took).Round(time.Millisecond), took.quantile(0.5).Round(time.Millisecond)), "", "150ms", met(took.quantile(0.5), 150*time.Millisecond),
	})
}

// hasWeights waits until every endpoint has the weight it was given last.
func (b *balancer) hasWeights(t *testing.T, want map[string]int) {
	t.Helper()
	proctest.Eventually(t, fmt.Sprintf("the last weight of %d endpoints", len(want)), func() bool {
		found := 0
		for _, svc := range b.status(t).Services {
			for _, e := range svc.Endpoints {
				if w, ok := want[svc.Name+" "+e.ID]; ok && w == e.Weight {
					found++
				}
			}
		}
		return found == len(want)
	})
}

// flood makes n puts, two for each new endpoint, within about two seconds, then
// one more of a service that answers, and returns how long after that one's
// answer the service was routed.
func (f *fleet) flood(t *testing.T, b *balancer, n int) (lag, took time.Duration) {
	t.Helper()
	c := dial(t, b.listen, "last.test")
	last := origin(t, "last")
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	begin := time.Now()
	for i := range n {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * 2 * time.Second / time.Duration(n))))
		plain, meta, addr, text := f.keys("new", i/2, 100)
		key, value := plain, addr
		if i%2 == 1 {
			key, value = meta, text
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if _, err := f.client.Put(context.WithoutCancel(t.Context()), key, value); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := f.client.Txn(t.Context()).Then(
		clientv3.OpPut("/services/last/1", last), clientv3.OpPut("/services.meta/last/1", `{"routes":["last.test/"]}`),
	).Commit()
	if err != nil {
		t.Fatal(err)
	}
	took = time.Since(begin)
	start := time.Now()
	for {
		if status, who := c.ask(t); status == http.StatusOK && who == "last" {
			return time.Since(start), took
		}
		if time.Since(start) > proctest.Patience {
			t.Fatal("the last put of a flood was never routed")
		}
		time.Sleep(time.Millisecond)
	}
}
