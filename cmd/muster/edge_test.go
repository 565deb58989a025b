package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// A balancer is "muster proxy" as a child, on free ports.
type balancer struct {
	*proctest.Proc
	addr, admin string
}

func startBalancer(t *testing.T, args ...string) balancer {
	t.Helper()
	args = append([]string{"proxy", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0"}, args...)
	p := proctest.Start(t, "balancer", nil, proctest.Build(t, "muster/cmd/muster"), args...)
	return balancer{p, p.Value("msg=listening", "addr"), p.Value(`msg="admin listening"`, "addr")}
}

// stop ends it as systemd does, and wants exit code 0.
func (b balancer) stop(t *testing.T) {
	t.Helper()
	b.Signal(syscall.SIGTERM)
	if code := b.Wait(); code != 0 {
		t.Errorf("the balancer ended with %d, want 0; it said\n%s", code, b.Output())
	}
}

// get asks for path with a Host of its own and returns status and body.
func (b balancer) get(t *testing.T, host, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+b.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host, req.Close = host, true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// wants waits until host and path give the status and an answer by who.
func (b balancer) wants(t *testing.T, host, path string, status int, who string) {
	t.Helper()
	var got, body any
	proctest.Eventually(t, fmt.Sprintf("%s%s answers %d by %q, last %v %v", host, path, status, who, &got, &body), func() bool {
		s, text := b.get(t, host, path)
		got, body = s, text
		return s == status && strings.HasPrefix(text, who)
	})
}

func startEchoProcess(t *testing.T, name string) (addr string) {
	t.Helper()
	p := proctest.Start(t, "echo "+name, nil, proctest.Build(t, "muster/cmd/muster"), "echo", "-name", name)
	return p.WaitFor("127.0.0.1:")
}

func put(t *testing.T, etcd *etcdtest.Server, kvs ...string) {
	t.Helper()
	for i := 0; i < len(kvs); i += 2 {
		if _, err := etcd.Client().Put(t.Context(), kvs[i], kvs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

func del(t *testing.T, etcd *etcdtest.Server, key string) {
	t.Helper()
	if _, err := etcd.Client().Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// An etcd that is not there is tried on; that is said once, and once when it is
// back. Requests get 503 before the first snapshot, and are served after it
// whatever becomes of etcd.
func TestEtcdAway(t *testing.T) {
	etcd := etcdtest.Start(t)
	put(t, etcd, "/services/web/1", startEchoProcess(t, "A"))
	etcd.Kill()
	b := startBalancer(t, "-store", "etcd://"+etcd.Addr())
	b.WaitFor("store is away")
	b.wants(t, "h", "/", 503, "The proxy has not heard from its store yet.")
	if got := status("http://" + b.admin + "/readyz"); got != 503 {
		t.Errorf("readyz before the first snapshot: %d, want 503", got)
	}
	etcd.Restart()
	b.wants(t, "h", "/", 200, "A ")
	if got := status("http://" + b.admin + "/readyz"); got != 200 {
		t.Errorf("readyz after the first snapshot: %d, want 200", got)
	}
	b.WaitFor("store is back")
	if n := strings.Count(b.Output(), "store is away"); n != 1 {
		t.Errorf("said %d times that etcd is away, want once", n)
	}
	etcd.Kill()
	proctest.Eventually(t, "said again that etcd is away", func() bool { return strings.Count(b.Output(), "store is away") == 2 })
	b.wants(t, "h", "/", 200, "A ")
	b.stop(t)
}

// A malformed value is named with its key and what was wanted, and its endpoint
// goes on as it was.
func TestMalformedValue(t *testing.T) {
	etcd := etcdtest.Start(t)
	put(t, etcd, "/services/web/1", startEchoProcess(t, "A"))
	b := startBalancer(t, "-store", "etcd://"+etcd.Addr())
	b.wants(t, "h", "/", 200, "A ")
	put(t, etcd, "/services/web/1", "ten.0.0.1;80")
	line := b.WaitFor("entry can't be read")
	for _, text := range []string{"key=/services/web/1", "ten.0.0.1;80", "kept=true", "want host:port"} {
		if !strings.Contains(line, text) {
			t.Errorf("the log says %q, want %q in it", line, text)
		}
	}
	b.wants(t, "h", "/", 200, "A ")
	_, page := balancer{b.Proc, b.admin, ""}.get(t, b.admin, "/api/v1/status")
	if !strings.Contains(page, "ten.0.0.1;80") {
		t.Errorf("the status does not list the bad value: %s", page)
	}
	b.stop(t)
}

// What can get no request is told with what was expected: a key of another depth,
// and an endpoint whose protocol is not spoken here.
func TestEndpointsThatGetNoRequest(t *testing.T) {
	etcd := etcdtest.Start(t)
	other := startEchoProcess(t, "B")
	put(t, etcd, "/services/web/1", startEchoProcess(t, "A"), "/services/web/2", "grpc://"+other, "/services/web", other, "/services/web/3/http", other)
	b := startBalancer(t, "-store", "etcd://"+etcd.Addr())
	b.wants(t, "h", "/", 200, "A ")
	for range 50 { // each would have been a 502 for every second request
		if status, body := b.get(t, "h", "/"); status != 200 || !strings.HasPrefix(body, "A ") {
			t.Fatalf("%d %q, want an answer by A", status, body)
		}
	}
	stray := `key=/services/web value=` + other + ` kept=false err="a name without an ID: want /services/NAME/ID"`
	deep := `key=/services/web/3/http value=` + other + ` kept=false err="an ID with a slash, \"3/http\": want /services/NAME/ID"`
	const protocol = `2 gets no request: it announces protocol \"grpc\", and this balancer speaks http and https`
	for _, text := range []string{stray, deep, protocol} {
		b.WaitFor(text)
		if n := strings.Count(b.Output(), text); n != 1 {
			t.Errorf("%q was logged %d times, want once", text, n)
		}
	}
	_, page := balancer{b.Proc, b.admin, ""}.get(t, b.admin, "/api/v1/status")
	for _, text := range []string{"an ID with a slash", "a name without an ID", protocol} {
		if !strings.Contains(page, text) {
			t.Errorf("the status does not say %q: %s", text, page)
		}
	}
	put(t, etcd, "/services/web/2", other)
	b.wants(t, "h", "/", 200, "B ")
	b.WaitFor("no longer so: " + protocol)
	b.stop(t)
}

// Of two equal claims the older wins, and the younger is told.
func TestClaimedRoute(t *testing.T) {
	etcd := etcdtest.Start(t)
	put(t, etcd,
		"/services/web/1", startEchoProcess(t, "A"), "/services.meta/web/1", `{"routes":["example.com/x"]}`,
		"/services/api/1", startEchoProcess(t, "B"), "/services.meta/api/1", `{"routes":["example.com/x","example.com/x/y"]}`)
	b := startBalancer(t, "-store", "etcd://"+etcd.Addr())
	b.wants(t, "example.com", "/x", 200, "A ")
	b.wants(t, "example.com:8080", "/x/y/z", 200, "B ")
	b.wants(t, "example.com", "/", 404, "Nothing is served")
	line := b.WaitFor("route example.com/x ")
	for _, text := range []string{"service=api", "goes to web", "announce another"} {
		if !strings.Contains(line, text) {
			t.Errorf("the log says %q, want %q in it", line, text)
		}
	}
	del(t, etcd, "/services.meta/web/1") // web gives the route up
	b.wants(t, "example.com", "/x", 200, "B ")
	b.WaitFor("no longer so: route example.com/x ")
	b.stop(t)
}

// The only service is exposed, and keeps that beside a second one, after a
// restart of the balancer too. Without that record several silent services are
// all unexposed, and the log says what to do.
func TestOnlyServiceIsKept(t *testing.T) {
	etcd := etcdtest.Start(t)
	state, store := t.TempDir(), "etcd://"+etcd.Addr()
	put(t, etcd, "/services/web/1", startEchoProcess(t, "A"))
	b := startBalancer(t, "-store", store, "-state", state)
	b.wants(t, "h", "/", 200, "A ")
	put(t, etcd, "/services/api/1", startEchoProcess(t, "B"))
	b.WaitFor("not exposed: it announces no route")
	b.wants(t, "h", "/", 200, "A ")
	del(t, etcd, "/services/web/1")
	b.wants(t, "h", "/", 503, "No endpoint of the service")
	b.stop(t)

	put(t, etcd, "/services/web/1", startEchoProcess(t, "A"))
	again := startBalancer(t, "-store", store, "-state", state)
	again.wants(t, "h", "/", 200, "A ")
	again.stop(t)

	// Away while the balancer starts anew, beside one that must not take its
	// place; the store has one more address now.
	del(t, etcd, "/services/web/1")
	away := startBalancer(t, "-store", store+",127.0.0.1:1", "-state", state)
	away.wants(t, "h", "/", 503, "No endpoint of the service")
	away.WaitFor("web was the only service before it")
	put(t, etcd, "/services/web/1", startEchoProcess(t, "A"))
	away.wants(t, "h", "/", 200, "A ")
	away.stop(t)

	fresh := startBalancer(t, "-store", store, "-state", t.TempDir())
	fresh.wants(t, "h", "/", 404, "Nothing is served")
	for _, service := range []string{"web", "api"} {
		fresh.WaitFor("-default " + service)
	}
	fresh.stop(t)

	domain := startBalancer(t, "-store", store, "-state", t.TempDir(), "-domain", "test", "-default", "web")
	domain.wants(t, "api.test", "/", 200, "B ")
	domain.wants(t, "elsewhere", "/", 200, "A ")
	domain.stop(t)
}

// Without a store at all: fixed endpoints in muster.toml, ready at once; SIGHUP
// takes a new file and keeps the last good one.
func TestFixedEndpointsAndReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "muster.toml")
	write := func(format string, args ...any) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("[service.web]\nendpoints = [%q]\n", startEchoProcess(t, "A"))
	b := startBalancer(t, "-store", "none", "-config", file)
	if got, body := b.get(t, "h", "/"); got != 200 || !strings.HasPrefix(body, "A ") {
		t.Errorf("the first request: %d %s, want 200 by A", got, body)
	}
	write("[service.web]\nendpoints = [%q]\n", startEchoProcess(t, "B"))
	b.Signal(syscall.SIGHUP)
	b.wants(t, "h", "/", 200, "B ")
	write("[service.web]\nendpoint = 1\n")
	b.Signal(syscall.SIGHUP)
	if line := b.WaitFor("file not reloaded"); !strings.Contains(line, "muster.toml:2: unknown key") {
		t.Errorf("the log says %q, want the line of the unknown key", line)
	}
	b.wants(t, "h", "/", 200, "B ")
	write("[[listener]]\nbind = \":1\"\nlimits.target = \"8B\"\n[service.web]\nendpoints = [%q]\n", startEchoProcess(t, "C"))
	b.Signal(syscall.SIGHUP)
	b.wants(t, "h", "/a-long-way", 414, "The target") // by -listen too
	b.wants(t, "h", "/", 200, "C ")
	b.stop(t)
}

// The same from a file that is read as a store, and followed.
func TestFileStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	write := func(entry, service string) {
		t.Helper()
		text := fmt.Sprintf("services:\n  %s:\n    %s\n", service, entry)
		if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("one: "+strconv.Quote(startEchoProcess(t, "A")), "web")
	b := startBalancer(t, "-store", "file:"+file)
	b.wants(t, "h", "/", 200, "A ")
	write("one: "+strconv.Quote(startEchoProcess(t, "B")), "web")
	b.wants(t, "h", "/", 200, "B ")
	write("one: "+strconv.Quote(startEchoProcess(t, "C")), "shop") // another takes its place
	b.wants(t, "h", "/", 200, "C ")
	b.stop(t)
}

// On SIGTERM the balancer says on /readyz that it leaves before its port closes,
// and finishes what runs.
func TestLeavesInOrder(t *testing.T) {
	etcd := etcdtest.Start(t)
	put(t, etcd, "/services/web/1", startEchoProcess(t, "A"))
	b := startBalancer(t, "-store", "etcd://"+etcd.Addr())
	b.wants(t, "h", "/", 200, "A ")
	running := make(chan int, 1)
	go func() {
		code, _ := b.get(t, "h", "/?delay=3s")
		running <- code
	}()
	proctest.Eventually(t, "the slow request runs", func() bool {
		_, text := balancer{b.Proc, b.admin, ""}.get(t, b.admin, "/metrics")
		return strings.Contains(text, `muster_in_flight{service="web"} 1`)
	})
	b.Signal(syscall.SIGTERM)
	b.WaitFor("msg=draining in_flight=1")
	if got := status("http://" + b.admin + "/readyz"); got != 503 {
		t.Errorf("readyz while it drains: %d, want 503", got)
	}
	if code := <-running; code != 200 {
		t.Errorf("the request that ran: %d, want 200", code)
	}
	b.WaitFor("msg=ended in_flight=0")
	if code := b.Wait(); code != 0 {
		t.Errorf("ended with %d, want 0", code)
	}
}

// An admin address that others reach opens with the token, and says what is
// missing without it. The token may stand in a file.
func TestAdminToken(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startBalancer(t, "-store", "none", "-admin", "0.0.0.0:0", "-admin-token", "file:"+token)
	_, port, err := net.SplitHostPort(b.admin)
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]int{"": 401, "Bearer guess": 401, "Bearer s3cret": 200} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:"+port+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Authorization %q: got %d, want %d", header, resp.StatusCode, want)
		}
	}
	b.stop(t)
}
