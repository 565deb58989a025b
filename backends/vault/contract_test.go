package vault_test

import (
	"context"
	"iter"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/vault"
	"muster/internal/vaulttest"
)

// The contract holds for engines of both versions.
func TestContract(t *testing.T) {
	for _, c := range []struct {
		name, version string
		together      bool
	}{
		{"version 1", "1", false},
		{"version 2", "2", false},
		{"together", "2", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := vaulttest.Start(t, vaulttest.Config{})
			s.Mount("suite", c.version)
			s.Mount("suitex", c.version)
			backendtest.Run(t, backendtest.Harness{
				Open: func(t testing.TB) backends.Store {
					store := open(t, s.Addr(), root(s), nil)
					if c.together {
						return together{store}
					}
					return store
				},
				Put:    func(t testing.TB, key, text string) { s.Put(key[1:], value(text)) },
				Delete: func(t testing.TB, key string) { s.Delete(key[1:]) },
				Stop:   func(testing.TB) { s.Kill() },
				Start:  func(testing.TB) { s.Restart() },
			})
		})
	}
}

// A together watches together, which is held to the same contract.
type together struct{ *vault.Store }

func (s together) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.WatchTogether(ctx, prefixes)
}
