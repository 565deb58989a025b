package proxy_test

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/catalog"
	"muster/internal/testserver"
	"muster/proxy"
)

// sick is an origin whose health can be switched.
type sick struct {
	status atomic.Int64
	probes atomic.Int64
	addr   string
}

func newSick(t *testing.T) *sick {
	s := new(sick)
	s.status.Store(200)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{Handler: s}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return s
}

func (s *sick) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		s.probes.Add(1)
		w.WriteHeader(int(s.status.Load()))
	}
	w.Write([]byte(s.addr))
}

func quick(h catalog.Health) *catalog.Health {
	h.Interval, h.Timeout = catalog.Duration(10*time.Millisecond), catalog.Duration(10*time.Second)
	return &h
}

func TestProbeHTTP(t *testing.T) {
	a, b := newSick(t), newSick(t)
	plan := sole(endpoint("a", a.addr), endpoint("b", b.addr))
	plan.Services[0].Endpoints[0].Health = quick(catalog.Health{HTTP: "/healthz"})
	plan.Services[0].Endpoints[1].Health = quick(catalog.Health{HTTP: "/healthz", Rise: 1, Fall: 1})
	log := new(lines)
	p, addr := start(t, proxy.Config{Log: slog.New(slog.NewTextHandler(log, nil))}, plan)
	c := client(t)
	served := func() (byA, byB int) {
		for range 40 {
			switch _, body := get(t, c, "http://"+addr+"/"); body {
			case a.addr:
				byA++
			case b.addr:
				byB++
			}
		}
		return byA, byB
	}
	is := func(id, state string) {
		t.Helper()
		await(t, id+" "+state, func() bool { return upstream(p, id).State == state })
	}
	await(t, "first probes", func() bool { return a.probes.Load() > 2 && b.probes.Load() > 2 })
	is("a", "up")

	a.status.Store(400)
	is("a", "failing")
	if reason := upstream(p, "a").Reason; !strings.Contains(reason, "GET /healthz: status 400: want 200 to 399") {
		t.Errorf("reason %q", reason)
	}
	if byA, byB := served(); byA != 0 || byB != 40 {
		t.Errorf("a fails: %d by a, %d by b, want only b", byA, byB)
	}
	b.status.Store(500) // all fail: better those than none
	is("b", "failing")
	if byA, byB := served(); byA == 0 || byB == 0 || byA+byB != 40 {
		t.Errorf("both fail: %d by a, %d by b, want both used", byA, byB)
	}
	a.status.Store(399)
	is("a", "up")
	if byA, byB := served(); byA != 40 || byB != 0 {
		t.Errorf("b fails: %d by a, %d by b, want only a", byA, byB)
	}
	b.status.Store(204)
	is("b", "up")
	for _, want := range []string{"fails its probe", "passes its probe again"} {
		if n := strings.Count(log.String(), want); n != 2 {
			t.Errorf("%d lines %q, want one for each of two", n, want)
		}
	}

	// No probe any more: it can't fail, and is left alone.
	b.status.Store(500)
	is("b", "failing")
	next := *plan
	next.Services = []*proxy.Service{{Name: "web", Endpoints: []*catalog.Endpoint{endpoint("b", b.addr)}}}
	p.Update(&next)
	is("b", "up")
}

func TestProbeTCP(t *testing.T) {
	a := testserver.New(t, "a")
	e := endpoint("a", a.Addr)
	e.Health = quick(catalog.Health{TCP: true})
	p, _ := start(t, proxy.Config{}, sole(e))
	a.Close()
	await(t, "failing", func() bool { return upstream(p, "a").State == "failing" })
	if reason := upstream(p, "a").Reason; !strings.Contains(reason, "refused") {
		t.Errorf("reason %q, want refused", reason)
	}
	testserver.NewAt(t, "a", a.Addr)
	await(t, "up again", func() bool { return upstream(p, "a").State == "up" })
	if a.Count() != 0 {
		t.Errorf("%d requests, want none: only connections", a.Count())
	}
}

// A server that takes the connection and says nothing fails by the timeout.
func TestProbeTimeout(t *testing.T) {
	silent := testserver.NewRaw(t, func(c *testserver.Conn, _ int) { c.Rest() })
	e := endpoint("a", silent.Addr)
	e.Health = &catalog.Health{HTTP: "/", Interval: catalog.Duration(10 * time.Millisecond), Timeout: catalog.Duration(20 * time.Millisecond), Fall: 2}
	p, _ := start(t, proxy.Config{}, sole(e))
	await(t, "failing", func() bool { return upstream(p, "a").State == "failing" })
	if reason := upstream(p, "a").Reason; !strings.Contains(reason, "timeout") {
		t.Errorf("reason %q, want a timeout", reason)
	}
}

// The operator's file beats what an endpoint says of itself.
func TestProbeOfTheFileWins(t *testing.T) {
	a := newSick(t)
	a.status.Store(503) // it takes connections, and answers /healthz with 503
	e := endpoint("a", a.addr)
	e.Health = quick(catalog.Health{TCP: true})
	plan := sole(e)
	plan.Services[0].Health = quick(catalog.Health{HTTP: "/healthz"})
	p, _ := start(t, proxy.Config{}, plan)
	await(t, "failing", func() bool { return upstream(p, "a").State == "failing" })
}
