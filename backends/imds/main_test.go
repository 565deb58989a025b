package imds_test

import (
	"testing"

	"go.uber.org/goleak"

	"muster/backends/imds"
	"muster/internal/awstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves an instance's metadata and opens it, to be read every 50 ms.
func start(t testing.TB) (*awstest.IMDS, *awstest.Server, *imds.Store) {
	t.Helper()
	m := awstest.NewIMDS()
	s := awstest.Start(t, m)
	store, err := imds.Open("imds:?interval=50ms&endpoint="+s.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return m, s, store
}
