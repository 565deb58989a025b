//go:build chaos

package faults

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"muster/backends"
	"muster/backends/etcd"
	"muster/catalog"
	"muster/discovery"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

const (
	churning, untouched, leased = 200, 1000, 20
	longestFault                = 4 * time.Second // a lease of 15 s outlives it, election and all
)

// TestChaos breaks things by chance for CHAOS_FOR (90s), from the seed CHAOS_SEED:
// connections are cut, refused and silent, members killed, frozen and restarted,
// leaders among them, and the history compacted away, while 200 endpoints come
// and go. After each fault has healed the watcher's state is etcd's; nothing
// ever happens to the 1,000 endpoints that nobody touches, nor to those that
// live announcers hold; and no request through a balancer fails.
func TestChaos(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	lasting := 90 * time.Second
	if text := os.Getenv("CHAOS_FOR"); text != "" {
		var err error
		if lasting, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CHAOS_SEED=%d CHAOS_FOR=%v", seed, lasting)
	c := newChaos(t, rand.New(rand.NewPCG(seed, 0)))
	faults := make(map[string]int)
	for end := time.Now().Add(lasting); time.Now().Before(end); {
		name, heal := c.fault()
		faults[name]++
		pause := time.Duration(c.rand.Int64N(int64(longestFault)))
		t.Logf("%s for %v", name, pause.Round(time.Millisecond))
		time.Sleep(pause)
		heal()
		c.equal(t, name)
	}
	c.load.faultless(t)
	c.quiet(t)
	c.churn.Lock()
	defer c.churn.Unlock()
	t.Logf("faults: %v; writes: %d", faults, c.writes)
}

type chaos struct {
	rand    *rand.Rand
	members []*etcdtest.Server
	relays  []*etcdtest.Relay // before them
	watcher *discovery.Watcher
	still   *catalog.Service // the service that nobody touches
	seen    *history         // of the leased ones
	load    *load
	direct  *clientv3.Client // to all members, without relays
	writes  int

	churn sync.Mutex // held while nobody may write
}

func newChaos(t *testing.T, random *rand.Rand) *chaos {
	c := &chaos{rand: random, members: etcdtest.Cluster(t, 3)}
	var addrs, through []string
	for _, m := range c.members {
		r := etcdtest.NewRelay(t, m.Addr())
		c.relays = append(c.relays, r)
		addrs, through = append(addrs, m.Addr()), append(through, r.Addr())
	}
	var err error
	if c.direct, err = clientv3.New(clientv3.Config{Endpoints: addrs, DialTimeout: 30 * time.Second, Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.direct.Close() })

	_, addr := app(t, "A")
	c.put(t, "/services/web/a", addr)
	var ops []clientv3.Op
	for i := range untouched {
		if ops = append(ops, clientv3.OpPut(fmt.Sprintf("/services/still/%d", i), fmt.Sprintf("10.1.%d.%d:80", i/200, i%200))); len(ops) == 100 {
			if _, err := c.direct.Txn(t.Context()).Then(ops...).Commit(); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	quiet := slog.New(slog.DiscardHandler)
	store, err := etcd.Open(etcdURL(through...), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); wg.Wait(); store.Close() })
	for i := range leased {
		l := store.Lease(15 * time.Second)
		wg.Go(func() { _ = l.Run(ctx) })
		if err := l.Write(ctx, []backends.KV{{Key: fmt.Sprintf("/services/leased/%d", i), Value: fmt.Sprintf("10.2.0.%d:80", i)}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.watcher = discovery.New(discovery.Config{Store: store, Log: quiet})
	wg.Go(func() { _ = c.watcher.Run(ctx) })
	proctest.Eventually(t, "everything is there", func() bool {
		s := c.watcher.Snapshot().Service("still")
		l := c.watcher.Snapshot().Service("leased")
		return s != nil && len(s.Endpoints) == untouched && l != nil && len(l.Endpoints) == leased
	})
	c.still = c.watcher.Snapshot().Service("still")
	wg.Go(func() { c.keepStill(ctx, t) })
	c.seen = record(t, c.members[0], "/services/leased/")
	b := balance(t, etcdURL(through...), "-default", "web")
	b.serves(t, "A")
	c.load = startLoad(t, "http://"+b.addr+"/")
	other := rand.New(rand.NewPCG(random.Uint64(), 1))
	wg.Go(func() { c.keepChurning(ctx, other) })
	return c
}

// keepStill wants the same pointer of the untouched service in every snapshot.
func (c *chaos) keepStill(ctx context.Context, t *testing.T) {
	var known *catalog.Snapshot
	for {
		s, err := c.watcher.Next(ctx, known)
		if err != nil {
			return
		}
		if known = s; s.Service("still") != c.still {
			t.Errorf("revision %d: something happened to the untouched service", s.Revision)
			return
		}
	}
}

// keepChurning lets endpoints come, change and go.
func (c *chaos) keepChurning(ctx context.Context, random *rand.Rand) {
	for ctx.Err() == nil {
		key := fmt.Sprintf("/services/churn/%d", random.IntN(churning))
		c.churn.Lock()
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		var err error
		if random.IntN(3) == 0 {
			_, err = c.direct.Delete(attempt, key)
		} else {
			_, err = c.direct.Put(attempt, key, fmt.Sprintf("10.3.%d.%d:%d", random.IntN(250), random.IntN(250), 1+random.IntN(60000)))
		}
		if err == nil {
			c.writes++
		}
		cancel()
		c.churn.Unlock()
		time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
	}
}

func (c *chaos) put(t *testing.T, key, value string) {
	t.Helper()
	if _, err := c.direct.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// fault does something bad and returns how to heal it.
func (c *chaos) fault() (name string, heal func()) {
	i := c.rand.IntN(3)
	m := c.members[i]
	all := func(do func(*etcdtest.Relay)) {
		for _, r := range c.relays {
			do(r)
		}
	}
	healAll := func() { all((*etcdtest.Relay).Heal) }
	switch c.rand.IntN(8) {
	case 0:
		all((*etcdtest.Relay).Cut)
		return "cut", func() {}
	case 1:
		all((*etcdtest.Relay).Refuse)
		return "refuse", healAll
	case 2:
		all((*etcdtest.Relay).Blackhole)
		return "blackhole", healAll
	case 3:
		c.relays[i].Blackhole()
		return "blackhole of one", c.relays[i].Heal
	case 4:
		all((*etcdtest.Relay).Refuse)
		return "compact", func() { c.compact(); healAll() }
	case 5:
		m.Kill()
		return "kill -9", m.Restart
	case 6:
		m.Stop()
		return "SIGSTOP", m.Cont
	default:
		for _, m := range c.members {
			if m.IsLeader() {
				m.Kill()
				return "leader kill", m.Restart
			}
		}
		return "no leader", func() {}
	}
}

func (c *chaos) compact() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if resp, err := c.direct.Get(ctx, "x"); err == nil {
		_, _ = c.direct.Compact(ctx, resp.Header.Revision) // another may have been faster
	}
}

// equal waits until the watcher has what etcd has, while nobody writes. Etcd is
// asked each time: a member that was frozen may still take a write from its
// connection that whoever sent it has given up.
func (c *chaos) equal(t *testing.T, after string) {
	t.Helper()
	c.churn.Lock()
	defer c.churn.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	began := time.Now()
	proctest.Eventually(t, "after "+after+" the watcher has what etcd has", func() bool {
		resp, err := c.direct.Get(ctx, "/services/churn/", clientv3.WithPrefix())
		if err != nil {
			return false
		}
		want := make(map[string]string)
		for _, kv := range resp.Kvs {
			want[string(kv.Key)] = string(kv.Value)
		}
		got := make(map[string]string)
		if svc := c.watcher.Snapshot().Service("churn"); svc != nil {
			for _, e := range svc.Endpoints {
				got["/services/churn/"+e.ID] = e.Addr
			}
		}
		return maps.Equal(got, want)
	})
	t.Logf("equal %v after it healed", time.Since(began).Round(time.Millisecond))
}

// quiet wants that nothing happened to what live announcers hold.
func (c *chaos) quiet(t *testing.T) {
	t.Helper()
	for i := range leased {
		if _, deletes := c.seen.count(fmt.Sprintf("/services/leased/%d", i)); deletes > 0 {
			t.Errorf("leased endpoint %d, whose announcer lives, was deleted %d times", i, deletes)
		}
	}
	if svc := c.watcher.Snapshot().Service("leased"); svc == nil || len(svc.Endpoints) != leased {
		t.Error("leased endpoints are missing in the end")
	}
}
