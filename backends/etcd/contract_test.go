package etcd_test

import (
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/internal/etcdtest"
)

func TestContract(t *testing.T) {
	s := etcdtest.Start(t)
	s.Client() // its goroutines are not the store's
	backendtest.Run(t, backendtest.Harness{
		Open:      func(t testing.TB) backends.Store { return openOnly(t, "etcd://"+s.Addr()) },
		Put:       func(t testing.TB, key, value string) { put(t, s, key, value) },
		Delete:    func(t testing.TB, key string) { del(t, s, key) },
		Stop:      func(testing.TB) { s.Kill() },
		Start:     func(testing.TB) { s.Restart() },
		Revisions: true,
	})
}
