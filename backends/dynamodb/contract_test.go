package dynamodb_test

import (
	"context"
	"iter"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/dynamodb"
	"muster/internal/awstest"
)

// A togetherStore watches together, which is held to the same contract.
type togetherStore struct{ *dynamodb.Store }

func (s togetherStore) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.WatchTogether(ctx, prefixes)
}

func TestContract(t *testing.T) {
	for name, together := range map[string]bool{"alone": false, "together": true} {
		t.Run(name, func(t *testing.T) {
			// A server before it would make connections of its own, which look
			// like leaks.
			d := awstest.StartDynalite(t, awstest.Table)
			d.Setenv(t)
			backendtest.Run(t, backendtest.Harness{
				Open: func(t testing.TB) backends.Store {
					store, err := dynamodb.Open("dynamodb:"+awstest.Table+"?interval=50ms", nil)
					if err != nil {
						t.Fatal(err)
					}
					if together {
						return togetherStore{store}
					}
					return store
				},
				Put:    func(t testing.TB, key, value string) { d.Put(key, value) },
				Delete: func(t testing.TB, key string) { d.Delete(key) },
				Stop:   func(testing.TB) { d.Kill() },
				Start:  func(testing.TB) { d.Restart() },
			})
		})
	}
}
