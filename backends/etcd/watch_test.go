package etcd_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/internal/etcdtest"
)

func TestNeighboursStayOut(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), nil, "/services", "/services.meta/", "/muster")
	for i, key := range []string{
		"/services/web/1", "/services-old/web/1", "/servicesx/web/1", "/services.x/y", "/services.metax/y", "/services+",
		"/services.meta/web/1", "/muster/defaults", "/muster.node/1", "/muster-x", "/musterx", "/services", "/services.meta", "/muster", "/s", "x",
	} {
		put(t, s, key, fmt.Sprint(i))
	}
	want := []string{
		"/services/web/1=0", "/services.meta/web/1=6", "/muster/defaults=7", "/services=11", "/services.meta=12", "/muster=13",
	}
	w.has(want...)
	w.alive(2)
	w.counts(0, 1)

	// A list sees the same as the stream.
	follow(t, open(t, "etcd://"+s.Addr(), nil), nil, "/services", "/services.meta/", "/muster").has(want...)
}

func TestKVsAreFilled(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	lease, err := s.Client().Grant(within(t), 3600)
	if err != nil {
		t.Fatal(err)
	}
	created := put(t, s, "/k/leased", "1", clientv3.WithLease(lease.ID))
	modified := put(t, s, "/k/leased", "2", clientv3.WithLease(lease.ID))
	want := backends.KV{Key: "/k/leased", Value: "2", Created: created, Modified: modified, Lease: int64(lease.ID)}
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), nil, "/k")
	w.until("it is listed as it is", func() bool { return w.state["/k/leased"] == want && w.last.Revision == modified })
	want.Value, want.Lease = "3", 0
	want.Modified = put(t, s, "/k/leased", "3")
	w.until("it is watched as it is", func() bool { return w.state["/k/leased"] == want })
}

// Whoever writes two keys in one transaction finds them in one Change, whatever
// ranges the watch is made of.
func TestOneTransactionIsOneChange(t *testing.T) {
	t.Parallel()
	value, meta := "/services/web/1", "/services.meta/web/1"
	for _, test := range []struct {
		name     string
		user     string // the URL's, with @
		opts     []etcdtest.Option
		prefixes []string
		pair     [2]string
	}{
		{"a value and its metadata", "", nil, []string{"/services", "/services.meta"}, [2]string{value, meta}},
		{"a key and what is below it", "", nil, []string{"/services"}, [2]string{value, "/services"}},
		{
			"a value and its metadata, for who may read no more", "u:p@",
			[]etcdtest.Option{etcdtest.Auth("u", "p", "/services/", "/services.meta/")},
			[]string{"/services", "/services.meta"},
			[2]string{value, meta},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := etcdtest.Start(t, test.opts...)
			var torn, changes int
			state := make(map[string]string)
			w := follow(t, open(t, "etcd://"+test.user+s.Addr(), nil), func(c backends.Change) {
				for _, kv := range c.Put {
					state[kv.Key] = kv.Value
				}
				if len(c.Put) > 0 {
					changes++
				}
				if state[test.pair[0]] != state[test.pair[1]] {
					torn++
				}
			}, test.prefixes...)
			const n = 500
			for i := range n {
				text := fmt.Sprint(i)
				_, err := s.Client().Txn(within(t)).Then(
					clientv3.OpPut(test.pair[0], text), clientv3.OpPut("/services.x", "between"), clientv3.OpPut(test.pair[1], text),
				).Commit()
				if err != nil {
					t.Fatal(err)
				}
			}
			w.until("the last is there", func() bool {
				return w.state[test.pair[0]].Value == fmt.Sprint(n-1) && w.state[test.pair[1]].Value == fmt.Sprint(n-1)
			})
			w.stop()
			if torn > 0 || changes < n/100 { // in a storm they come 10 ms together
				t.Errorf("%d of %d Changes were torn", torn, changes)
			}
		})
	}
}

func TestManyPrefixes(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	var prefixes, want []string
	for i := range 300 {
		p := fmt.Sprintf("/p%03d", i)
		prefixes = append(prefixes, p)
		if i%3 == 0 {
			put(t, s, p+"/a", "1")
			want = append(want, p+"/a=1")
		}
	}
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), nil, prefixes...)
	w.has(want...)
	put(t, s, "/p299/late", "1")
	w.has(append(want, "/p299/late=1")...)
	w.alive(2)
	w.counts(0, 1)
}

func TestNoPrefixes(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	put(t, s, "/k", "v")
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), nil)
	w.alive(2)
	w.want("0 errors, 1 full")
}

// A revision of several megabytes is one Change, and no break.
func TestHugeRevisionIsOneChange(t *testing.T) {
	s := etcdtest.Start(t)
	tenThousand(t, s, "v")
	long := strings.Repeat("x", 300)
	for from := 0; from < 10_000; from += 125 {
		var ops []clientv3.Op
		for i := range 125 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/services/long/%s/%05d", long, from+i), ""))
		}
		if _, err := s.Client().Txn(within(t)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	var biggest int
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), func(c backends.Change) {
		biggest = max(biggest, len(c.Deleted))
	}, "/services")
	w.until("all are there", func() bool { return len(w.state) == 20_000 })
	begin := time.Now()
	if _, err := s.Client().Delete(within(t), "/services/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	w.until("all are gone", func() bool { return len(w.state) == 0 })
	t.Logf("20000 deletes came after %v", time.Since(begin).Round(time.Millisecond))
	w.counts(0, 1)
	w.stop()
	if biggest != 20_000 {
		t.Errorf("one revision of 20000 deletes: the biggest Change has %d", biggest)
	}
}

// While the loop's body is busy, what happens waits in etcd and not here; and
// the time it takes is not taken for etcd's silence.
func TestSlowLoopKeepsTheHeapFlatAndLosesNothing(t *testing.T) {
	const (
		puts = 6_000
		size = 4 << 10
	)
	s := etcdtest.Start(t)
	release, blocked := make(chan struct{}), make(chan struct{}, 1)
	seen := make(map[string]int)
	w := follow(t, open(t, "etcd://"+s.Addr(), nil), func(c backends.Change) {
		for _, kv := range c.Put {
			seen[kv.Key]++
			if kv.Key == "/services/block" {
				blocked <- struct{}{}
				<-release
			}
		}
	}, "/services", "/services.meta")
	w.until("it is Full", func() bool { return w.fulls == 1 })
	put(t, s, "/services/block", "")
	<-blocked

	value := strings.Repeat("x", size)
	ctx := within(t)
	before, begin := heap(), time.Now()
	var writers sync.WaitGroup
	for n := range 16 {
		writers.Go(func() {
			for i := n; i < puts; i += 16 {
				if _, err := s.Client().Put(ctx, fmt.Sprintf("/services/n/%04d", i), value); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	wrote := time.Since(begin)
	if rest := 3*time.Second - wrote; rest > 0 {
		time.Sleep(rest) // the body works for 3 s at least
	}
	grown := heap() - before
	t.Logf("%d puts of %d bytes, %.0f/s, while the body was busy for %v: the heap grew by %d KiB",
		puts, size, puts/wrote.Seconds(), time.Since(begin).Round(time.Millisecond), grown>>10)
	if grown > puts*size/8 {
		t.Errorf("the heap grew by %d KiB of %d", grown>>10, puts*size>>10)
	}
	close(release)
	w.until("all are there", func() bool { return len(w.state) == puts+1 })
	w.alive(1)
	w.counts(0, 1)
	w.stop()
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", key, n)
		}
	}
}

func heap() int {
	for range 3 { // pools are emptied by the second only
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
