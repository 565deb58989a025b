package secretsmanager_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"muster/backends/secretsmanager"
	"muster/internal/awstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a Secrets Manager, as the environment says, and opens it, to be
// read every 50 ms.
func start(t testing.TB) (*awstest.Secrets, *awstest.Server, *secretsmanager.Store) {
	t.Helper()
	p := awstest.NewSecrets()
	s := awstest.Start(t, p)
	awstest.Setenv(t, s, awstest.Default)
	return p, s, open(t, "", nil)
}

func open(t testing.TB, parameters string, log *slog.Logger) *secretsmanager.Store {
	t.Helper()
	store, err := secretsmanager.Open("secretsmanager:?interval=50ms"+parameters, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}
