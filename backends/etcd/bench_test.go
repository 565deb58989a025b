package etcd_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/internal/etcdtest"
)

// BenchmarkPutToChange is the time from before a put until the loop's body has
// its Change, beside what etcd's own client takes for the same.
func BenchmarkPutToChange(b *testing.B) {
	s := etcdtest.Start(b)
	measure := func(b *testing.B, came <-chan string) {
		took := make([]time.Duration, 0, b.N)
		for i := 0; b.Loop(); i++ {
			value, begin := fmt.Sprint(b.N, i), time.Now()
			put(b, s, "/services/web/1", value)
			for <-came != value {
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	}
	b.Run("clientv3", func(b *testing.B) {
		came := make(chan string, 100)
		watch := s.Client().Watch(b.Context(), "/services/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-watch
		go func() {
			for r := range watch {
				for _, e := range r.Events {
					came <- string(e.Kv.Value)
				}
			}
		}()
		measure(b, came)
	})
	for name, prefixes := range map[string][]string{
		"one range":  {"/services", "/services.meta"},
		"two ranges": {"/services"},
	} {
		b.Run(name, func(b *testing.B) {
			came := make(chan string, 100)
			w := follow(b, open(b, "etcd://"+s.Addr(), nil), func(c backends.Change) {
				for _, kv := range c.Put {
					came <- kv.Value
				}
			}, prefixes...)
			w.until("it is Full", func() bool { return w.fulls == 1 })
			measure(b, came)
			w.stop()
		})
	}
}
