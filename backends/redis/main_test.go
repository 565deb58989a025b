package redis_test

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/backends/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen; on a busy machine it takes a while.
const patience = 60 * time.Second

func open(t testing.TB, url string, log *slog.Logger) *redis.Store {
	t.Helper()
	s, err := redis.Open(url, log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newStore(t testing.TB, nodes ...string) *redis.Store {
	t.Helper()
	s, err := redis.New(redis.Config{Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
