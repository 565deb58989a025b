package rancher_test

import (
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/internal/ranchertest"
)

func TestContract(t *testing.T) {
	for name, conf := range map[string]ranchertest.Config{
		"waiting for versions": {},
		"versions, no waiting": {NoWait: true},
		"no versions":          {NoVersion: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := ranchertest.Start(t, conf)
			backendtest.Run(t, backendtest.Harness{
				Open:   func(t testing.TB) backends.Store { return open(t, "rancher://"+s.Addr()+"/latest") },
				Put:    func(_ testing.TB, key, value string) { s.Put("/latest"+key, value) },
				Delete: func(_ testing.TB, key string) { s.Delete("/latest" + key) },
				Stop:   func(testing.TB) { s.Stop() },
				Start:  func(testing.TB) { s.Start() },
			})
		})
	}
}
