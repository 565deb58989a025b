package portable

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/proctest"
	"muster/proxy/balance"
)

// A resolver answers as told, and counts.
type resolver struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	asked int
}

func (r *resolver) lookup(context.Context, string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return append([]netip.Addr(nil), r.addrs...), r.err
}

func (r *resolver) tell(err error, addrs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addrs, r.err = nil, err
	for _, a := range addrs {
		r.addrs = append(r.addrs, netip.MustParseAddr(a))
	}
}

// old makes the answer for host due again.
func (n *names) old(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[host].at = time.Now().Add(-nameTTL)
}

// A name is asked for once while its answer is fresh, again when it is old, and
// where the resolver is away its last answer stays in use, said once. Connections
// to where it does not lead any more are closed.
func TestNamesOfEndpoints(t *testing.T) {
	var log strings.Builder
	var mu sync.Mutex
	e := New(Config{Log: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil))})
	defer e.Close()
	r := new(resolver)
	e.names.lookup = r.lookup
	one, port := listenAs(t, "127.0.0.1", "0")
	two, _ := listenAs(t, "127.0.0.2", port)
	u := &balance.Upstream{Addr: "app.test:" + port}
	connect := func() net.Addr {
		t.Helper()
		c, err := e.dial(t.Context(), u, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		e.pool(u).put(c, time.Now())
		return c.RemoteAddr()
	}
	idle := func() int {
		p := e.pool(u)
		p.sweep(time.Now(), e.names.current(u))
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.idle)
	}

	r.tell(errors.New("no such host"))
	if _, err := e.dial(t.Context(), u, time.Minute); err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("a name nobody knows: %v, want the resolver's error", err)
	}
	r.tell(nil, "127.0.0.3", "127.0.0.1") // nobody listens at the first
	for range 3 {
		if at := connect(); at.String() != one {
			t.Errorf("connected to %v, want %s", at, one)
		}
	}
	if r.asked != 2 || idle() != 3 {
		t.Errorf("asked %d times, %d connections idle; want 2 and 3", r.asked, idle())
	}

	r.tell(errors.New("resolver is away"))
	for range 3 {
		e.names.old("app.test")
		if at := connect(); at.String() != one {
			t.Errorf("while the resolver is away: connected to %v, want %s", at, one)
		}
		e.names.asking.Wait()
	}
	mu.Lock()
	if n := strings.Count(log.String(), "can't be resolved"); n != 1 || strings.Contains(log.String(), "no such host") {
		t.Errorf("said %d times that it can't be resolved, want once: %s", n, log.String())
	}
	mu.Unlock()

	r.tell(nil, "127.0.0.2")
	e.names.old("app.test")
	proctest.Eventually(t, "no connection to where it was", func() bool { return idle() == 0 })
	if at := connect(); at.String() != two {
		t.Errorf("after it has moved: connected to %v, want %s", at, two)
	}
	if idle() != 1 {
		t.Error("the connection to where it is was closed")
	}
	e.names.forget(time.Now().Add(2 * nameUnused))
	if len(e.names.known) != 0 {
		t.Errorf("%d names are known, and nobody uses one", len(e.names.known))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// listenAs takes connections at an address of this machine until the test ends.
func listenAs(t *testing.T, host, port string) (addr, at string) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	_, at, _ = net.SplitHostPort(l.Addr().String())
	return l.Addr().String(), at
}
