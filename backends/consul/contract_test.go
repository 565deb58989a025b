package consul_test

import (
	"context"
	"iter"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/consul"
	"muster/internal/consultest"
)

func TestContract(t *testing.T) {
	for name, open := range map[string]func(t testing.TB, addr string) backends.Store{
		"by element": func(t testing.TB, addr string) backends.Store { return open(t, "consul://"+addr, nil) },
		"by string":  func(t testing.TB, addr string) backends.Store { return byString(t, addr) },
		"together":   func(t testing.TB, addr string) backends.Store { return together{open(t, "consul://"+addr, nil)} },
	} {
		t.Run(name, func(t *testing.T) {
			s := consultest.Start(t, consultest.Config{})
			backendtest.Run(t, backendtest.Harness{
				Open:      func(t testing.TB) backends.Store { return open(t, s.Addr()) },
				Put:       func(t testing.TB, key, value string) { s.Put(key[1:], value) },
				Delete:    func(t testing.TB, key string) { s.Delete(key[1:]) },
				Stop:      func(testing.TB) { s.Kill() },
				Start:     func(testing.TB) { s.Restart() },
				ByString:  name == "by string",
				Revisions: true,
			})
		})
	}
}

// A together watches together, which is held to the same contract.
type together struct{ *consul.Store }

func (s together) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.WatchTogether(ctx, prefixes)
}
