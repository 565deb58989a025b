package sidekickcmd_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/sidekickcmd"
)

// printed is what "muster unit" prints.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	std := cli.Std{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	if code := sidekickcmd.Unit(t.Context(), std, args); code != cli.Done || errs.Len() > 0 {
		t.Fatalf("muster unit %q: got code %d and %q", args, code, errs.String())
	}
	return out.String()
}

// reportAt is the /status behind a unix socket.
func reportAt(t *testing.T, socket string) (r struct {
	Service, ID, Addr, State, Reason, Lease string
	Announced                               bool
},
) {
	t.Helper()
	body, code := get(t, socket, "/status")
	if err := json.Unmarshal([]byte(body), &r); err != nil || code != http.StatusOK {
		t.Fatalf("/status: got %d and %q: %v", code, body, err)
	}
	return r
}

// get asks an HTTP server behind a unix socket; it waits until there is one.
func get(t *testing.T, socket, path string) (body string, code int) {
	t.Helper()
	return ask(t, socket, http.MethodGet, path)
}

func ask(t *testing.T, socket, method, path string) (body string, code int) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://sidekick"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		resp, err := client.Do(req)
		if err == nil {
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(text), resp.StatusCode
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// slim is the path of cmd/sidekick as it is shipped.
func slim(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
