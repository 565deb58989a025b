package sidekick_test

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"muster/backends/etcd"
	"muster/sidekick"
)

// A program announces an app that runs beside it until SIGTERM. (It needs an
// etcd, so it is not run here.)
func Example() {
	store, err := etcd.Open("etcd://127.0.0.1:2379", slog.Default())
	if err != nil {
		slog.Error("store", "err", err)
		os.Exit(2)
	}
	defer store.Close()
	s, err := sidekick.New(sidekick.Config{
		Service: "web",
		Addr:    "10.0.0.5:8080",
		Checks:  []string{"http:/healthz"},
		Lease:   store.Lease(15 * time.Second),
		Log:     slog.Default(),
	})
	if err != nil {
		slog.Error("sidekick", "err", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := s.Run(ctx); err != nil {
		slog.Error("sidekick", "err", err)
	}
}
