package zookeeper_test

import (
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/internal/zktest"
)

func TestContract(t *testing.T) {
	for name, chroot := range map[string]string{"from the root": "", "below a chroot": "/some/where"} {
		t.Run(name, func(t *testing.T) {
			s := zktest.Start(t)
			s.Put("/beside", "x") // also makes the client, whose goroutines are not the store's
			backendtest.Run(t, backendtest.Harness{
				Open:      func(t testing.TB) backends.Store { return open(t, "zk://"+s.Addr()+chroot, nil) },
				Put:       func(t testing.TB, key, value string) { s.Put(chroot+key, value) },
				Delete:    func(t testing.TB, key string) { s.Delete(chroot + key) },
				Stop:      func(testing.TB) { s.Kill() },
				Start:     func(testing.TB) { s.Restart() },
				Revisions: true,
			})
		})
	}
}
