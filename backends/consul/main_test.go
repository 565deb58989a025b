package consul_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"muster/backends"
	"muster/backends/consul"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, url string, log *slog.Logger) *consul.Store {
	t.Helper()
	s, err := consul.Open(url, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// byString opens the store as confd does.
func byString(t testing.TB, addr string) *consul.Store {
	t.Helper()
	s, err := consul.New(consul.Config{Nodes: []string{addr}, Match: backends.HasPrefix})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
