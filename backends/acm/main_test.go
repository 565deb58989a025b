package acm_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"muster/backends/acm"
	"muster/internal/awstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a Certificate Manager, as the environment says, and opens it, to be
// read every 50 ms.
func start(t testing.TB) (*awstest.ACM, *awstest.Server, *acm.Store) {
	t.Helper()
	p := awstest.NewACM()
	s := awstest.Start(t, p)
	awstest.Setenv(t, s, awstest.Default)
	return p, s, open(t, "", nil)
}

func open(t testing.TB, parameters string, log *slog.Logger) *acm.Store {
	t.Helper()
	store, err := acm.Open("acm:?interval=50ms"+parameters, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}
