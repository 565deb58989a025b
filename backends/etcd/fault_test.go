package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/internal/etcdtest"
)

// naive is what the client's own Watch tells: nothing of breaks.
type naive struct{ events, errors, closed int }

var naiveNothing naive

// watchNaively watches with clientv3 until stop, which says what came.
func watchNaively(t testing.TB, c *clientv3.Client, prefix string, revision int64) (stop func() naive) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan naive, 1)
	watch := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
	go func() {
		var n naive
		for r := range watch {
			n.events += len(r.Events)
			if err := r.Err(); err != nil && !errors.Is(err, context.Canceled) {
				n.errors++
			}
		}
		if ctx.Err() == nil {
			n.closed++
		}
		done <- n
	}()
	return func() naive { cancel(); return <-done }
}

// five puts keys that no fault may disturb.
func five(t testing.TB, s *etcdtest.Server) (values []string) {
	t.Helper()
	for i := range 5 {
		put(t, s, fmt.Sprintf("/services/web/%d", i), "10.0.0.1:80")
		values = append(values, fmt.Sprintf("/services/web/%d=10.0.0.1:80", i))
	}
	return values
}

func TestKillAndRestartOnAQuietStore(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), nil, "/services")
	w.has(five(t, s)...)
	w.alive(2)
	naive := watchNaively(t, s.Client(), "/services/", 1)
	w.mark()

	s.Kill()
	w.broken()
	time.Sleep(2 * time.Second) // many attempts
	w.want("1 errors, 0 full")
	s.Restart()
	w.until("it is Full again", func() bool { return w.fulls == 1 })
	w.alive(4)
	w.want("1 errors, 1 full")

	// And so a second time.
	w.mark()
	s.Restart()
	w.until("it is Full again", func() bool { return w.fulls == 1 })
	w.alive(4)
	w.want("1 errors, 1 full")

	if n := naive(); n.errors+n.closed > 0 {
		t.Errorf("the client's own Watch tells of a break by now: %+v", n)
	}
}

func TestCutOnAQuietStore(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	w := follow(t, open(t, "etcd://"+r.Addr(), nil), nil, "/services", "/services.meta")
	w.has(five(t, s)...)
	w.alive(2)
	for range 2 {
		w.mark()
		r.Cut()
		w.until("it is Full again", func() bool { return w.fulls == 1 })
		w.alive(4)
		w.want("1 errors, 1 full")
	}
}

func TestWhatHappensDuringABreakComesOnce(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	w := follow(t, open(t, "etcd://"+r.Addr(), nil), nil, "/services")
	w.has(five(t, s)...)
	w.mark()
	r.Refuse()
	w.broken()
	put(t, s, "/services/web/0", "10.0.0.2:80")
	put(t, s, "/services/web/new", "10.0.0.3:80")
	del(t, s, "/services/web/4")
	put(t, s, "/services/web/brief", "x")
	del(t, s, "/services/web/brief")
	r.Heal()
	w.until("the new one is there", func() bool { return w.state["/services/web/new"].Value != "" })
	w.alive(2)
	w.want("1 errors, 1 full, delete /services/web/4, put /services/web/0, put /services/web/new")
}

func TestCompactionDuringABreak(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	w := follow(t, open(t, "etcd://"+r.Addr(), nil), nil, "/services")
	w.has(five(t, s)...)
	w.mark()
	r.Refuse()
	w.broken()
	put(t, s, "/services/web/0", "10.0.0.2:80")
	for i := range 10 {
		put(t, s, "/elsewhere", fmt.Sprint(i))
	}
	compact(t, s, put(t, s, "/elsewhere", "x"))
	naive := watchNaively(t, s.Client(), "/services/", 2)
	r.Heal()
	w.until("it is Full again", func() bool { return w.fulls == 1 })
	w.alive(2)
	w.want("1 errors, 1 full, put /services/web/0")
	if n := naive(); n.errors == 0 {
		t.Errorf("compaction does not bite: %+v", n)
	}
}

// putAtLast puts in a cluster that may be choosing a leader.
func putAtLast(t testing.TB, s *etcdtest.Server, key, value string) {
	t.Helper()
	eventually(t, "put "+key, func() bool {
		_, err := s.Client().Put(within(t), key, value)
		return err == nil
	})
}

func compact(t testing.TB, s *etcdtest.Server, revision int64) {
	t.Helper()
	if _, err := s.Client().Compact(within(t), revision); err != nil {
		t.Fatal(err)
	}
}

// A loop that is slower than the store loses its place to a compaction, without
// any break: that is one Full and no error.
func TestCompactionOfASlowWatch(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	release := make(chan struct{})
	blocked := make(chan struct{}, 1)
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), func(c backends.Change) {
		if len(c.Put) == 1 && c.Put[0].Key == "/services/block" {
			blocked <- struct{}{}
			<-release
		}
	}, "/services")
	w.has(five(t, s)...)
	put(t, s, "/services/block", "")
	<-blocked
	w.mark()
	// More than the connection and etcd's queue of 1024 responses hold.
	big := strings.Repeat("x", 8<<10)
	last := int64(0)
	for i := range 1600 {
		last = put(t, s, "/services/web/big", fmt.Sprint(i, big))
	}
	compact(t, s, last)
	close(release)
	w.until("the last value is there", func() bool { return w.state["/services/web/big"].Modified == last })
	w.alive(2)
	w.counts(0, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.diffs {
		if d != "put /services/web/big" {
			t.Errorf("%s, which nobody did", d)
		}
	}
}

func TestWipedEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), nil, "/services")
	w.has(five(t, s)...)
	naive := watchNaively(t, s.Client(), "/services/", 7)
	w.mark()
	s.Wipe()
	s.Restart()
	put(t, s, "/services/web/new", "10.0.0.9:80")
	w.has("/services/web/new=10.0.0.9:80")
	w.alive(2)
	w.counts(1, 1)
	if n := naive(); n != naiveNothing {
		t.Errorf("the client's own Watch sees it by now: %+v", n)
	}
}

// tenThousand puts so many keys that they are not listed again without need.
func tenThousand(t testing.TB, s *etcdtest.Server, value string) int64 {
	t.Helper()
	var revision int64
	ops := make([]clientv3.Op, 0, 125)
	for i := range 10_000 {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("/services/many/%05d", i), value))
		if len(ops) < cap(ops) {
			continue
		}
		resp, err := s.Client().Txn(within(t)).Then(ops...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		revision, ops = resp.Header.Revision, ops[:0]
	}
	return revision
}

func TestManyKeysAreNotListedAgainAfterACut(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	tenThousand(t, s, "v")
	w := follow(t, open(t, "etcd://"+r.Addr(), nil), nil, "/services", "/services.meta")
	w.until("all are there", func() bool { return len(w.state) == 10_000 })
	for i := range 2 {
		w.mark()
		r.Refuse()
		w.broken()
		put(t, s, "/services/many/00007", fmt.Sprint("w", i))
		put(t, s, "/services/web/1", fmt.Sprint("10.0.0.1:", i))
		r.Heal()
		w.until("the new one is there", func() bool { return w.state["/services/web/1"].Value == fmt.Sprint("10.0.0.1:", i) })
		w.alive(4)
		w.want("1 errors, 0 full, put /services/many/00007, put /services/web/1")
	}

	// The last thing that happened may have been a delete.
	del(t, s, "/services/web/1")
	w.until("it is gone", func() bool { return w.state["/services/web/1"].Value == "" })
	w.mark()
	r.Cut()
	w.broken()
	w.alive(4)
	w.want("1 errors, 0 full")

	// Compacted meanwhile: proof is not to be had.
	w.mark()
	r.Refuse()
	w.broken()
	compact(t, s, put(t, s, "/services/web/1", "10.0.0.2:80"))
	r.Heal()
	w.until("it is Full again", func() bool { return w.fulls == 1 })
	w.alive(2)
	w.want("1 errors, 1 full, put /services/web/1")
}

// Many who have to list a large store again don't do it all at once.
func TestHerdOfFollowersIsSpread(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	tenThousand(t, s, "v")
	const herd = 12
	var mu sync.Mutex
	fulls := make(map[int][]time.Time)
	for i := range herd {
		follow(t, open(t, "etcd://"+r.Addr(), nil), func(c backends.Change) {
			if c.Full {
				mu.Lock()
				defer mu.Unlock()
				fulls[i] = append(fulls[i], time.Now())
			}
		}, "/services")
	}
	listed := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			done := 0
			for _, times := range fulls {
				if len(times) == n {
					done++
				}
			}
			return done == herd
		}
	}
	eventually(t, "all have listed", listed(1))
	compact(t, s, put(t, s, "/other", "x")) // nobody can prove his place any more
	r.Cut()
	eventually(t, "all have listed again", listed(2))
	var again []time.Time
	for _, times := range fulls {
		again = append(again, times[1])
	}
	first, last := slices.MinFunc(again, time.Time.Compare), slices.MaxFunc(again, time.Time.Compare)
	// Without chance they need the 12 lists' time. With it, that all of them draw
	// the same half second of three happens once in 10^8 times.
	if spread := last.Sub(first); spread < 500*time.Millisecond {
		t.Errorf("%d watches listed again within %v, want them spread over seconds", herd, spread)
	}
}

func TestManyKeysInAWipedEtcdThatOvertook(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	before := tenThousand(t, s, "before")
	w := follow(t, open(t, "etcd://"+r.Addr(), nil), nil, "/services")
	w.until("all are there", func() bool { return len(w.state) == 10_000 })
	w.mark()
	r.Refuse()
	w.broken()
	s.Wipe()
	s.Restart()
	put(t, s, "/services/early", "x") // what a watch from the old revision misses
	for put(t, s, "/elsewhere", "x") <= before+10 {
	}
	naive := watchNaively(t, s.Client(), "/services/", before+1)
	r.Heal()
	w.has("/services/early=x")
	w.alive(2)
	w.counts(1, 1)
	if n := naive(); n != naiveNothing {
		t.Errorf("the client's own Watch sees it by now: %+v", n)
	}
}

func TestStuckAddressIsLeftForTheNext(t *testing.T) {
	t.Parallel()
	s := etcdtest.Cluster(t, 3)
	urls := "etcd://" + s[0].Addr() + "," + s[1].Addr()
	w := follow(t, open(t, urls, nil), nil, "/services")
	w.has(five(t, s[1])...)
	w.alive(1)
	naive := watchNaively(t, s[0].Client(), "/services/", 100)
	w.mark()
	s[0].Stop()
	w.broken()
	putAtLast(t, s[1], "/services/web/new", "10.0.0.9:80")
	w.until("the new one is there", func() bool { return w.state["/services/web/new"].Value != "" })
	w.alive(2)
	w.want("1 errors, 1 full, put /services/web/new")
	if n := naive(); n != naiveNothing {
		t.Errorf("the client's own Watch notices by now: %+v", n)
	}
	s[0].Cont()
}

func TestFirstAddressDown(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	down := etcdtest.NewRelay(t, s.Addr())
	down.Refuse()
	hole := etcdtest.NewRelay(t, s.Addr())
	hole.Blackhole()
	for name, first := range map[string]string{"refused": down.Addr(), "silent": hole.Addr()} {
		w := follow(t, open(t, "etcd://"+first+","+s.Addr(), nil), nil, "/services")
		w.until(name+": it is Full", func() bool { return w.fulls == 1 })
		w.alive(2)
		w.want("0 errors, 1 full")
	}
}

func TestAllAddressesDownAtFirst(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	put(t, s, "/services/web/1", "10.0.0.1:80")
	a, b := etcdtest.NewRelay(t, s.Addr()), etcdtest.NewRelay(t, s.Addr())
	a.Refuse()
	b.Refuse()
	w := follow(t, open(t, "etcd://"+a.Addr()+","+b.Addr(), nil), nil, "/services")
	w.broken()
	time.Sleep(2 * time.Second) // many attempts
	for _, addr := range []string{a.Addr(), b.Addr()} {
		w.said("etcd " + addr + ": dial tcp " + addr + ": connect: connection refused")
	}
	w.want("1 errors, 0 full")
	b.Heal()
	w.has("/services/web/1=10.0.0.1:80")
	w.want("1 errors, 1 full, put /services/web/1")
}

func TestBlackholeHeals(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	w := follow(t, open(t, "etcd://"+r.Addr(), nil), nil, "/services")
	w.has(five(t, s)...)
	w.mark()
	r.Blackhole()
	w.broken()
	w.said("etcd " + r.Addr() + ": no answer for 1.5s")
	put(t, s, "/services/web/new", "10.0.0.9:80")
	r.Heal()
	w.until("the new one is there", func() bool { return w.state["/services/web/new"].Value != "" })
	w.alive(2)
	w.want("1 errors, 1 full, put /services/web/new")
}

func TestNoLeaderIsABreak(t *testing.T) {
	t.Parallel()
	s := etcdtest.Cluster(t, 3)
	w := follow(t, open(t, "etcd://"+s[0].Addr(), nil), nil, "/services")
	w.has(five(t, s[0])...)
	naive := watchNaively(t, s[0].Client(), "/services/", 100)
	w.mark()
	s[1].Kill()
	s[2].Kill()
	w.broken()
	time.Sleep(2 * time.Second)
	w.want("1 errors, 0 full")
	if n := naive(); n != naiveNothing {
		t.Errorf("the client's own Watch notices by now: %+v", n)
	}
	s[1].Restart()
	putAtLast(t, s[1], "/services/web/new", "10.0.0.9:80")
	w.until("the new one is there", func() bool { return w.state["/services/web/new"].Value != "" })
	w.want("1 errors, 1 full, put /services/web/new")
}
