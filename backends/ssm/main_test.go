package ssm_test

import (
	"testing"

	"go.uber.org/goleak"

	"muster/backends/ssm"
	"muster/internal/awstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a Parameter Store, as the environment says, and opens it, to be
// read every 50 ms.
func start(t testing.TB) (*awstest.SSM, *awstest.Server, *ssm.Store) {
	t.Helper()
	p := awstest.NewSSM()
	s := awstest.Start(t, p)
	awstest.Setenv(t, s, awstest.Default)
	return p, s, open(t)
}

func open(t testing.TB) *ssm.Store {
	t.Helper()
	store, err := ssm.Open("ssm:?interval=50ms", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}
