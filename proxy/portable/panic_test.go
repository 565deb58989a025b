package portable_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/catalog"
	"muster/internal/testserver"
	"muster/proxy/balance"
	"muster/proxy/portable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bug in one request costs its connection and nothing else.
func TestPanicCostsOneConnection(t *testing.T) {
	a := testserver.New(t, "a")
	service := balance.NewService("web", new(balance.Stats), []balance.Member{{Upstream: balance.NewUpstream("web", "a", a.Addr, ""), Weight: 1}})
	service.Connect, service.Response = time.Minute, time.Minute
	var table atomic.Pointer[balance.Table]
	routes := balance.NewRoutes([]balance.Target{{Route: catalog.Route{Path: "/app"}, Service: 0}})
	table.Store(balance.NewTable(true, routes, []*balance.Service{service}))
	var log bytes.Buffer
	e := portable.New(portable.Config{Table: &table, Tally: nil /* the bug */, Log: slog.New(slog.NewTextHandler(&log, nil))})

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx, l, portable.Listener{}) }()
	other := testserver.Dial(t, l.Addr().String())
	fine := func() {
		t.Helper()
		other.Send("GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
		res := other.Response(t, "GET")
		if body, err := io.ReadAll(res.Body); string(body) != "a" || err != nil {
			t.Fatalf("%q, %v, want a", body, err)
		}
	}
	fine()
	c := testserver.Dial(t, l.Addr().String())
	c.Send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
	if text, _ := c.Rest(); text != "" {
		t.Errorf("answer %q, want none and the end", text)
	}
	fine()
	if e.Panics() != 1 {
		t.Errorf("%d panics counted, want 1", e.Panics())
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	e.Close()
	if e.InFlight() != 0 || !strings.Contains(log.String(), "panicked") || !strings.Contains(log.String(), "exchange.go") {
		t.Errorf("in flight %d, log %s: want 0 and the stack", e.InFlight(), &log)
	}
}
