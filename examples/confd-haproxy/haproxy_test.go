package haproxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/internal/etcdtest"
	"muster/internal/openload"
	"muster/internal/proctest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proctest.Clean()
	os.Exit(code)
}

// confdir copies the example's files, with dir in place of /etc/haproxy and /run.
func confdir(t *testing.T, dir string) {
	for from, to := range map[string]string{"haproxy.toml": "conf.d/haproxy.toml", "haproxy.tmpl": "templates/haproxy.tmpl"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mine := strings.NewReplacer("/etc/haproxy/", dir+"/", "/run/", dir+"/").Replace(string(text))
		if err := os.WriteFile(path, []byte(mine), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func put(t *testing.T, etcd *etcdtest.Server, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	if value == "" {
		_, err = etcd.Client().Delete(ctx, key)
	} else {
		_, err = etcd.Client().Put(ctx, key, value)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// backend serves its name, and returns its address.
func backend(t *testing.T, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestNobodyNotices runs run.sh as it is: HAProxy serves while endpoints come
// and go 50 times, and every request is answered.
func TestNobodyNotices(t *testing.T) {
	haproxy := proctest.Need(t, "haproxy")
	dir := t.TempDir()
	confdir(t, dir)
	etcd := etcdtest.Start(t)
	addr := proctest.FreeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	names := []string{"a", "b", "c"}
	addrs := make(map[string]string)
	for _, name := range names {
		addrs[name] = backend(t, name)
	}
	put(t, etcd, "/services/web/a", addrs["a"])
	put(t, etcd, "/services/api/b", addrs["b"])

	path := filepath.Dir(proctest.Build(t, "muster/cmd/confd")) + ":" + filepath.Dir(haproxy) + ":" + os.Getenv("PATH")
	env := []string{"PATH=" + path, "ETCD=" + etcd.Addr(), "PORT=" + port, "CONFDIR=" + dir, "CFG=" + dir + "/haproxy.cfg", "PIDFILE=" + dir + "/haproxy.pid"}
	run := proctest.Start(t, "run.sh", env, "setsid", "-w", "./run.sh")
	t.Cleanup(func() { _ = syscall.Kill(-run.Pid(), syscall.SIGKILL) })
	run.WaitFor("[haproxy] starting")
	get := func(host string) string {
		req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Close = host, true
		rec, err := http.DefaultClient.Do(req)
		if err != nil {
			return ""
		}
		defer rec.Body.Close()
		body := make([]byte, 16)
		n, _ := rec.Body.Read(body)
		return string(body[:n])
	}
	proctest.Eventually(t, "HAProxy serves api by its host", func() bool { return get("api") == "b" })
	proctest.Eventually(t, "HAProxy serves web by its host", func() bool { return get("web") == "a" })

	load := openload.Start(t, "http://"+addr+"/", 100) // the first service, api
	cfg := func() string { text, _ := os.ReadFile(dir + "/haproxy.cfg"); return string(text) }
	for i := range 50 {
		id, server := "c", "server c "+addrs["c"]
		if i%2 == 0 {
			put(t, etcd, "/services/api/"+id, addrs["c"])
		} else {
			put(t, etcd, "/services/api/"+id, "")
		}
		proctest.Eventually(t, fmt.Sprintf("render %d", i), func() bool { return strings.Contains(cfg(), server) == (i%2 == 0) })
	}
	put(t, etcd, "/services/api/b", "") // and at last another one serves
	put(t, etcd, "/services/api/a", addrs["a"])
	proctest.Eventually(t, "the last state is applied", func() bool { return get("api") == "a" })
	answers, failures := load.Stop()
	if len(failures) > 0 {
		t.Errorf("%d requests failed: %.5q", len(failures), failures)
	}
	if answers["b"] == 0 || answers["c"] == 0 {
		t.Errorf("answers %v, want some of b and of c", answers)
	}
	t.Logf("answers %v, none failed; %d reloads", answers, strings.Count(run.Output(), "has been updated"))
}

// TestUnit runs what confd.service says: -watch, a reload, an end.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	confdir(t, dir)
	text, err := os.ReadFile("confd.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		settings[key] = value
	}
	etcd := etcdtest.Start(t)
	put(t, etcd, "/services/web/a", "127.0.0.1:1")
	metrics := proctest.FreeAddr(t)
	line := strings.NewReplacer("127.0.0.1:2379", etcd.Addr(), "127.0.0.1:9910", metrics).Replace(settings["ExecStart"])
	args := append(strings.Fields(line)[1:], "-confdir", dir, "-config-file", dir+"/none", "-sync-only")
	confd := proctest.Start(t, "confd", nil, proctest.Build(t, "muster/cmd/confd"), args...)
	confd.WaitFor("has been updated")
	if settings["ExecReload"] != "/bin/kill -HUP $MAINPID" {
		t.Errorf("ExecReload=%s, want SIGHUP", settings["ExecReload"])
	}
	if err := os.WriteFile(dir+"/templates/haproxy.tmpl", []byte("another\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	confd.Signal(syscall.SIGHUP)
	proctest.Eventually(t, "the new template's text", func() bool {
		text, _ := os.ReadFile(dir + "/haproxy.cfg")
		return string(text) == "another\n"
	})
	resp, err := http.Get("http://" + metrics + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s, want 200", resp.Status)
	}
	confd.Signal(syscall.SIGTERM)
	if code := confd.Wait(); code != 0 {
		t.Errorf("exit %d after SIGTERM, want 0", code)
	}
}
