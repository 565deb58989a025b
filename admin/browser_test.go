package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/discovery"
	"muster/internal/proctest"
	"muster/proxy"
)

// dom is the page at url as Chromium has it after its scripts ran for a while.
func dom(t *testing.T, chromium, url string, while time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience+while)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+t.TempDir(), fmt.Sprintf("--timeout=%d", while.Milliseconds()), "--dump-dom", url)
	cmd.WaitDelay = time.Second
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, &said)
	}
	return string(out)
}

// TestBrowserPatchesThePage loads the page of one sample in a real browser and
// streams the next to it: an endpoint goes, one comes, one changes, and so do
// notes and routes. The rows that page.js makes of it must read as those that
// the server would have rendered.
func TestBrowserPatchesThePage(t *testing.T) {
	chromium := proctest.Need(t, "chromium")
	before := webStatus(1000, 1000)
	after := webStatus(23456, 1007)
	after.Refused = map[int]uint64{404: 1201, 503: 7}
	after.Routes = append(after.Routes, proxy.RouteStatus{Match: "/", Service: "shop", Source: "flag -default"})
	web := &after.Services[1]
	web.Upstreams[1] = proxy.UpstreamStatus{ID: "3", Addr: "3", State: "starting", Latency: latency(0, 0)}
	web.Upstreams[0].State, web.Upstreams[0].Reason = "draining", "announced so"
	after.Services = []proxy.ServiceStatus{
		{Name: "<b>shop</b>", Upstreams: []proxy.UpstreamStatus{{ID: "a", Addr: "10.0.0.9:80", State: "up"}}, Exposed: true},
		*web,
	}

	b := &scripted{status: before}
	a, err := New(Config{
		Bind: "127.0.0.1:0", Balancer: b, StoreURL: "etcd://127.0.0.1:2379", Version: "v0.1.0",
		Store: scriptedStore{discovery.Status{
			Ready: true, Stale: true, Revision: 1234567, Proof: time.Now().Add(-4000 * time.Second),
			Bad: []discovery.Bad{{Key: "/services/web/9", Value: "<i>", Err: "want host:port"}},
		}},
		Notes: func() []Note {
			if b.Overview(0).Refused[503] == 0 {
				return nil
			}
			return []Note{{slog.LevelInfo, "api", "is gone"}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	now := time.Now()
	a.sampler.sample(now.Add(-30 * time.Second))
	next := sync.OnceFunc(func() {
		b.set(after)
		a.sampler.sample(now)
	})
	base := serve(t, a, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/stream" {
				next()
			}
			h.ServeHTTP(w, r)
		})
	})

	first := text(mustGet(t, base+"/"))
	if strings.Contains(first, "shop") || !strings.Contains(first, "10.0.0.2:80") {
		t.Fatalf("the first page says\n%s", first)
	}
	got, want := "", "another"
	for while := time.Second; got != want && while < proctest.Patience; while *= 2 {
		got = text(dom(t, chromium, base+"/", while))
		want = text(mustGet(t, base+"/"))
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("rendered by the server (-) and by page.js (+):\n%s", diff)
	}
	for _, line := range []string{
		"web example.com/|1 starting, 1 draining||749|2.0|2.0|0|3||",
		"1 10.0.0.1:80|draining announced so|100 %|749|0.99|0.99|0|2||",
		"3|starting|0 %|0|–|–|0|0||",
		"<b>shop</b>|1 up||0|–|–|0|0||",
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("want %q in the page, which says\n%s", line, got)
		}
	}
}
