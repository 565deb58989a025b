package portable_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/catalog"
	"muster/proxy/balance"
	"muster/proxy/portable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs an engine with one service at /, whose endpoint is at addr, until
// the test ends, and returns it and its address.
func serve(t testing.TB, c portable.Config, path, addr string) (*portable.Engine, string) {
	t.Helper()
	service := balance.NewService("web", new(balance.Stats), []balance.Member{{Upstream: &balance.Upstream{Service: "web", ID: "a", Addr: addr}, Weight: 1}})
	service.Connect, service.Response = time.Minute, time.Minute
	var table atomic.Pointer[balance.Table]
	routes := balance.NewRoutes([]balance.Target{{Route: catalog.Route{Path: path}, Service: 0}})
	table.Store(balance.NewTable(true, routes, []*balance.Service{service}))
	c.Table = &table
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := portable.New(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx, l, portable.NewFront(portable.Listener{})) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		e.Close()
		if e.InFlight() != 0 {
			t.Errorf("%d requests in flight at the end, want none", e.InFlight())
		}
	})
	return e, l.Addr().String()
}
