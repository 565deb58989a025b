package zookeeper_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"muster/backends/zookeeper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, url string, log *slog.Logger) *zookeeper.Store {
	t.Helper()
	s, err := zookeeper.Open(url, log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
