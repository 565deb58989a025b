package nginx_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"muster/internal/etcdtest"
	"muster/internal/openload"
	"muster/internal/proctest"
)

// cronLine is the arguments of confd in README.md's line for cron.
func cronLine(t *testing.T) []string {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(text), "* * * * * root confd ")
	if !ok {
		t.Fatal("README.md has no line for cron")
	}
	line, _, _ = strings.Cut(line, "\n")
	return strings.Fields(line)
}

// TestNobodyNotices runs "confd -onetime", as README.md has it for cron, after each of 50
// changes: each makes a new file and reloads nginx, and every request is answered.
func TestNobodyNotices(t *testing.T) {
	nginx := proctest.Need(t, "nginx")
	dir := t.TempDir()
	etcd := etcdtest.Start(t)
	addr := proctest.FreeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	example := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer("/etc/nginx/conf.d/", dir+"/nginx.d/", "/run/", dir+"/", "nginx -", nginx+" -c "+dir+"/nginx.conf -").Replace(string(text))
	}
	write("conf.d/nginx.toml", example("nginx.toml"))
	write("templates/nginx.tmpl", example("nginx.tmpl"))
	write("nginx.conf", "pid "+dir+"/nginx.pid;\nerror_log stderr;\nworker_processes 2;\nevents {}\nhttp { access_log off; include "+dir+"/nginx.d/*.conf; }\n")
	write("nginx.d/keep", "")

	confd := proctest.Build(t, "muster/cmd/confd")
	args := cronLine(t)
	args[slices.Index(args, "127.0.0.1:2379")] = etcd.Addr()
	once := func() string {
		t.Helper()
		cmd := exec.Command(confd, append(slices.Clone(args), "-confdir", dir, "-config-file", dir+"/none")...)
		cmd.Env = append(os.Environ(), "PORT="+port)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("confd: %v\n%s", err, out)
		}
		return string(out)
	}
	a, b := backend(t, "A"), backend(t, "B")
	put(t, etcd, "a", a)
	once()
	server := proctest.Start(t, "nginx", nil, nginx, "-c", dir+"/nginx.conf", "-g", "daemon off;")
	t.Cleanup(func() { server.Signal(syscall.SIGTERM); server.Wait() }) // its workers end with it
	proctest.Eventually(t, "nginx serves A", func() bool { return get(addr) == "A" })

	load := openload.Start(t, "http://"+addr+"/", 100)
	updates := 0
	for i := range 50 {
		if i%2 == 0 {
			put(t, etcd, "b", b)
		} else {
			del(t, etcd, "b")
		}
		updates += strings.Count(once(), "has been updated")
	}
	put(t, etcd, "b", b)
	del(t, etcd, "a")
	once()
	proctest.Eventually(t, "the last state is applied", func() bool { return get(addr)+get(addr)+get(addr) == "BBB" })
	answers, failures := load.Stop()
	if len(failures) > 0 {
		t.Errorf("%d requests failed: %.5q", len(failures), failures)
	}
	if updates != 50 {
		t.Errorf("%d updates, want 50", updates)
	}
	if answers["A"] == 0 || answers["B"] == 0 {
		t.Errorf("answers %v, want some of each", answers)
	}
	t.Logf("answers %v, none failed; %d updates and reloads", answers, updates)
}
