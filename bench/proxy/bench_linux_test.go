package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"muster/internal/proctest"
)

// The test's binary is the child too, as the command is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "-pin" || os.Args[1] == "-serve") {
		main()
		return
	}
	code := m.Run()
	proctest.Clean()
	os.Exit(code)
}

// short is a run that is long enough to see that everything takes part.
func short(t *testing.T, only, against string) *bench {
	t.Helper()
	for _, server := range []string{"nginx", "haproxy"} {
		proctest.Need(t, server)
	}
	b := &bench{log: io.Discard}
	b.Rounds, b.Warm, b.Window = 1, 50*time.Millisecond, 100*time.Millisecond
	if err := b.choose(only, against, proctest.Build(t, "muster/cmd/muster"), ""); err != nil {
		t.Fatal(err)
	}
	for i := range b.workloads {
		w := &b.workloads[i]
		w.connections, w.rate = min(w.connections, 100), min(w.rate, 200)
	}
	return b
}

// Every proxy answers every workload, byte for byte in number and all of them with
// 200, or the run fails; every figure of the table is one.
func TestEveryProxyTakesPart(t *testing.T) {
	b := short(t, "", "")
	if err := b.all(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, w := range b.workloads {
		for _, p := range b.peers {
			c := b.cell(w.name, p.name)
			switch {
			case p.name == "floor" && w.noFloor:
				if c != nil {
					t.Errorf("%s, %s: measured what it can't do", w.name, p.name)
				}
			case c == nil:
				t.Errorf("%s, %s: not measured", w.name, p.name)
			case w.idle:
				if len(c.PerIdle) != 1 || c.RSS[0] <= 0 {
					t.Errorf("%s, %s: %+v", w.name, p.name, c)
				}
			case len(c.CPU) != 1 || c.CPU[0] <= 0 || c.Rate[0] <= 0 || c.Busy[0] <= 0 || c.RSS[0] <= 0:
				t.Errorf("%s, %s: %+v", w.name, p.name, c)
			}
		}
	}
	table := b.table()
	for _, want := range []string{"| get200 |", "\n| muster |", "\n| haproxy |", "KB for each idle connection"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	if plot := b.plot(); strings.Count(plot, "<rect") < 2*len(b.peers) {
		t.Errorf("the plot has too few bars:\n%s", plot)
	}
}

// A proxy that answers wrongly is no figure but an error.
func TestWrongAnswerIsAnError(t *testing.T) {
	short100 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(filler(100))
	}))
	defer short100.Close()
	usable, err := cores()
	if err != nil {
		t.Fatal(err)
	}
	for backend, want := range map[string]string{
		proctest.FreeAddr(t):              `the proxy answered "HTTP/1.1 502 Bad Gateway"`,
		short100.Listener.Addr().String(): "the proxy answered 100 bytes, want 200",
	} {
		b := short(t, "get200", "fasthttp")
		l, err := newLoop()
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.measure(t.Context(), l, b.workloads[0], b.peers[1], usable[0], []string{backend})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", backend, err, want)
		}
	}
}
