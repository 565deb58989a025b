package rancher_test

import (
	"testing"

	"go.uber.org/goleak"

	"muster/backends/rancher"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, url string) *rancher.Store {
	t.Helper()
	s, err := rancher.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
