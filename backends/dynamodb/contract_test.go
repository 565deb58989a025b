package dynamodb_test

import (
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/dynamodb"
	"muster/internal/awstest"
)

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
						return awstest.Together{Together: store}
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
