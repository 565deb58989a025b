package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"muster/discovery"
	"muster/proxy"
	"muster/proxy/balance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A scripted balancer says what the test last set.
type scripted struct {
	mu     sync.Mutex
	status proxy.Status
}

func (s *scripted) Ready() bool { return s.Overview(0).Ready }

func (s *scripted) Overview(most int) proxy.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Services = slices.Clone(st.Services)
	for i := range st.Services {
		svc := &st.Services[i]
		n := min(most, len(svc.Upstreams))
		most -= n
		for _, u := range svc.Upstreams[n:] {
			if svc.More == nil {
				svc.More = make(map[string]int)
			}
			svc.More[u.State]++
		}
		svc.Upstreams = svc.Upstreams[:n]
	}
	return st
}

func (s *scripted) set(status proxy.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

type scriptedStore struct{ status discovery.Status }

func (s scriptedStore) Status() discovery.Status { return s.status }

// latency is a histogram of n durations.
func latency(n int, d time.Duration) proxy.Latency {
	var h balance.Histogram
	for range n {
		h.Observe(d)
	}
	return proxy.Latency{Buckets: h.Buckets()}
}

// webStatus is a service of two endpoints after n and m requests.
func webStatus(n, m uint64) proxy.Status {
	return proxy.Status{
		Ready:     true,
		Listeners: []string{"127.0.0.1:8080"},
		Routes:    []proxy.RouteStatus{{Match: "example.com/", Service: "web", Source: "announced", Shadows: []string{"api"}}},
		Refused:   map[int]uint64{404: 1200},
		Services: []proxy.ServiceStatus{
			{Name: "api", Requests: 0},
			{
				Name: "web", Exposed: true, Requests: n + m, Errors: m / 10, InFlight: 3, Latency: latency(int(n+m), 2*time.Millisecond),
				Upstreams: []proxy.UpstreamStatus{
					{ID: "1", Addr: "10.0.0.1:80", State: "up", Weight: 100, Requests: n, InFlight: 2, Latency: latency(int(n), time.Millisecond)},
					{ID: "2", Addr: "10.0.0.2:80", State: "failing", Reason: "connection refused", Weight: 100, Requests: m, Errors: m / 10, InFlight: 1, Latency: latency(int(m), 4*time.Millisecond)},
				},
			},
		},
	}
}

// start runs an Admin until the test ends.
func start(t *testing.T, cfg Config) (a *Admin, base string) {
	t.Helper()
	if cfg.Bind == "" {
		cfg.Bind = "127.0.0.1:0"
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got %v, want context.Canceled", err)
		}
	})
	return a, "http://" + a.Addr().String()
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestReadyFollowsSnapshotAndLeaving(t *testing.T) {
	b := &scripted{}
	a, base := start(t, Config{Balancer: b, Store: scriptedStore{discovery.Status{Err: "etcd 127.0.0.1:1: connection refused"}}})
	check := func(when string, status int, text string) {
		t.Helper()
		resp, body := get(t, base+"/readyz")
		if resp.StatusCode != status || !strings.Contains(body, text) {
			t.Errorf("/readyz %s: got %d %q, want %d with %q", when, resp.StatusCode, body, status, text)
		}
		if resp, _ := get(t, base+"/healthz"); resp.StatusCode != 200 {
			t.Errorf("/healthz %s: got %d, want 200", when, resp.StatusCode)
		}
	}
	check("before the first snapshot", 503, "no snapshot of the store yet: etcd 127.0.0.1:1: connection refused")
	b.set(proxy.Status{Ready: true})
	check("with a snapshot", 200, "ready")
	a.Leave()
	check("while leaving", 503, "leaving")
}

func TestPortTaken(t *testing.T) {
	a, _ := start(t, Config{Balancer: &scripted{}})
	_, err := New(Config{Bind: a.Addr().String(), Balancer: &scripted{}})
	if want := "admin: listen tcp " + a.Addr().String() + ": bind: address already in use"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_test_total", Help: "test"})
	reg.MustRegister(c)
	c.Add(3)
	_, base := start(t, Config{Balancer: &scripted{}, Metrics: reg})
	if _, body := get(t, base+"/metrics"); !strings.Contains(body, "muster_test_total 3") {
		t.Errorf("got %q, want muster_test_total 3", body)
	}
}

// Only metrics and health are for everybody.
func TestGuard(t *testing.T) {
	const secret = "s3cret"
	for _, test := range []struct {
		name, bind, token string
		header            []string
		status            int // of what is guarded
		text              string
	}{
		{"loopback", "127.0.0.1:0", "", nil, 200, ""},
		{"localhost", "127.0.0.1:0", "", []string{"Host", "localhost:9900"}, 200, ""},
		{"another name of it", "127.0.0.1:0", "", []string{"Host", "muster.localhost"}, 200, ""},
		{"IPv6", "127.0.0.1:0", "", []string{"Host", "[::1]:9900"}, 200, ""},
		{"a rebound name", "127.0.0.1:0", "", []string{"Host", "evil.example:9900"}, 403, "not to the name in this request"},
		{"a rebound address", "127.0.0.1:0", "", []string{"Host", "10.0.0.1"}, 403, "not to the name in this request"},
		{"open to others", "0.0.0.0:0", "", nil, 403, "Set a token, or serve this on a loopback address"},
		{"no token", "0.0.0.0:0", secret, nil, 401, "Authorization: Bearer TOKEN"},
		{"no token, loopback", "127.0.0.1:0", secret, nil, 401, "open /?token=TOKEN"},
		{"wrong token", "0.0.0.0:0", secret, []string{"Authorization", "Bearer s3cre"}, 401, "A token is needed"},
		{"wrong cookie", "0.0.0.0:0", secret, []string{"Cookie", "muster_admin=s3cret"}, 401, "A token is needed"},
		{"token", "0.0.0.0:0", secret, []string{"Authorization", "Bearer s3cret", "Host", "edge-1.example:9900"}, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, _ := start(t, Config{Bind: test.bind, Token: test.token, Balancer: &scripted{status: webStatus(1, 1)}})
			_, port, _ := strings.Cut(strings.ReplaceAll(a.Addr().String(), "[::]", ""), ":")
			base := "http://127.0.0.1:" + port
			for _, path := range []string{"/", "/api/v1/status", "/page.js", "/page.css"} {
				resp, body := get(t, base+path, test.header...)
				if resp.StatusCode != test.status || !strings.Contains(body, test.text) {
					t.Errorf("%s: got %d %.200q, want %d with %q", path, resp.StatusCode, body, test.status, test.text)
				}
				if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'") {
					t.Errorf("%s: Content-Security-Policy %q", path, csp)
				}
			}
			for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
				if resp, body := get(t, base+path, test.header...); resp.StatusCode != 200 {
					t.Errorf("%s: got %d %q, want 200", path, resp.StatusCode, body)
				}
			}
		})
	}
}

// No Host but a loopback address or a name below localhost passes, however it
// is written: those no name server can point anywhere.
func FuzzLoopbackName(f *testing.F) {
	for _, host := range []string{"localhost", "LOCALHOST.:80", "a.localhost", "127.0.0.1:9900", "[::1]:9900", "[::1]", "::1", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::ffff:127.0.0.1]:1", "127.1", "", ":", "[", "0.0.0.0", "::1%eth0"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !loopbackName(host) {
			return
		}
		name := strings.ToLower(host)
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
		if ip := net.ParseIP(strings.SplitN(name, "%", 2)[0]); ip != nil && ip.IsLoopback() {
			return
		}
		if name != "localhost" && !strings.HasSuffix(name, ".localhost") {
			t.Errorf("%q passes for this machine", host)
		}
	})
}

func TestLogin(t *testing.T) {
	_, base := start(t, Config{Token: "s3cret", Balancer: &scripted{status: webStatus(1, 1)}})
	if resp, body := get(t, base+"/?token=guess"); resp.StatusCode != 401 || len(resp.Cookies()) > 0 {
		t.Errorf("wrong token: got %d %q and %d cookies, want 401 and none", resp.StatusCode, body, len(resp.Cookies()))
	}
	resp, _ := get(t, base+"/?token=s3cret")
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/" || len(resp.Cookies()) != 1 {
		t.Fatalf("login: got %d to %q with %d cookies, want 303 to / with one", resp.StatusCode, resp.Header.Get("Location"), len(resp.Cookies()))
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, "s3cret") {
		t.Errorf("login: got cookie %v, want HttpOnly, SameSite=Strict and not the token itself", c)
	}
	if resp, _ := get(t, base+"/", "Cookie", c.Name+"="+c.Value); resp.StatusCode != 200 {
		t.Errorf("with the cookie: got %d, want 200", resp.StatusCode)
	}
}

func TestMethodsAndPaths(t *testing.T) {
	_, base := start(t, Config{Balancer: &scripted{}})
	if resp, _ := get(t, base+"/nothing"); resp.StatusCode != 404 {
		t.Errorf("unknown path: got %d, want 404", resp.StatusCode)
	}
	resp, err := http.Post(base+"/api/v1/status", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("POST: got %d, want 405", resp.StatusCode)
	}
}

func ExampleNew() {
	a, err := New(Config{Bind: "127.0.0.1:0", Balancer: &scripted{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	fmt.Println(a.Run(ctx))
	// Output: context canceled
}
