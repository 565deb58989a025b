package portable_test

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"muster/internal/testserver"
	"muster/proxy/balance"
	"muster/proxy/portable"
)

// A bug in one request costs its connection and nothing else.
func TestPanicCostsOneConnection(t *testing.T) {
	a := testserver.New(t, "a")
	log := new(text)
	e, addr := serve(t, portable.Config{Tally: nil /* the bug */, Log: slog.New(slog.NewTextHandler(log, nil))}, "/app", a.Addr)
	other := testserver.Dial(t, addr)
	fine := func() {
		t.Helper()
		other.Send("GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
		res := other.Response(t, "GET")
		if body, err := io.ReadAll(res.Body); string(body) != "a" || err != nil {
			t.Fatalf("%q, %v, want a", body, err)
		}
	}
	fine()
	c := testserver.Dial(t, addr)
	c.Send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
	if text, _ := c.Rest(); text != "" {
		t.Errorf("answer %q, want none and the end", text)
	}
	fine()
	if e.Panics() != 1 {
		t.Errorf("%d panics counted, want 1", e.Panics())
	}
	if s := log.String(); !strings.Contains(s, "panicked") || !strings.Contains(s, "exchange.go") {
		t.Errorf("log %s: want the stack", s)
	}
}

// A bug in what takes the records costs its connection, and the counts are
// right.
func TestPanicOfRecord(t *testing.T) {
	a := testserver.New(t, "a")
	e, addr := serve(t, portable.Config{Tally: new(balance.Tally), Record: func(*balance.Record) { panic("a bug") }}, "/", a.Addr)
	for range 2 {
		c := testserver.Dial(t, addr)
		c.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if s, _ := c.Rest(); !strings.HasPrefix(s, "HTTP/1.1 200") {
			t.Errorf("answer %q, want a 200 and the end", s)
		}
	}
	if e.Panics() != 2 {
		t.Errorf("%d panics counted, want 2", e.Panics())
	}
}

// text is a log that several may write.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
