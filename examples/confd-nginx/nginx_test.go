package nginx_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proctest.Clean()
	os.Exit(code)
}

// TestDemo runs run.sh as it is, with its files where they belong: in a mount
// namespace of its own, whose /etc is a copy with /etc/confd in it.
func TestDemo(t *testing.T) {
	proctest.Need(t, "nginx")
	unshare := proctest.Need(t, "unshare")
	if out, err := exec.Command(unshare, "-mpf", "true").CombinedOutput(); err != nil {
		t.Skipf("needs a mount namespace: %v: %s", err, out)
	}
	etcd := etcdtest.Start(t)
	etcd.Kill() // the script has to wait for it
	addr := proctest.FreeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	work := t.TempDir()
	bin := t.TempDir() // where muster is called confd
	if err := os.Symlink(proctest.Build(t, "muster/cmd/muster"), filepath.Join(bin, "confd")); err != nil {
		t.Fatal(err)
	}
	prepare := fmt.Sprintf(`set -e
cp -a /etc %[1]s/etc
mkdir -p %[1]s/etc/confd/conf.d %[1]s/etc/confd/templates
cp nginx.toml %[1]s/etc/confd/conf.d/
cp nginx.tmpl %[1]s/etc/confd/templates/
rm -f %[1]s/etc/nginx/sites-enabled/*
mount --make-rprivate /
mount --bind %[1]s/etc /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log/nginx
PATH=%[2]s:$PATH exec ./run.sh`, work, bin)
	demo := proctest.Start(t, "run.sh", []string{"ETCD=" + etcd.Addr(), "PORT=" + port},
		unshare, "-mpf", "--kill-child", "sh", "-c", prepare)

	demo.WaitFor("[nginx] waiting for confd to refresh nginx.conf")
	etcd.Restart()
	a, b := backend(t, "A"), backend(t, "B")
	put(t, etcd, "a", a)
	demo.WaitFor("Target config /etc/nginx/conf.d/docker-meetup-demo.conf has been updated")
	demo.WaitFor("[nginx] starting nginx")
	proctest.Eventually(t, "nginx serves A", func() bool { return get(addr) == "A" })

	put(t, etcd, "b", b)
	proctest.Eventually(t, "nginx serves A and B", func() bool { return get(addr)+get(addr) == "AB" })

	del(t, etcd, "a")
	proctest.Eventually(t, "nginx serves B alone", func() bool {
		return get(addr)+get(addr)+get(addr)+get(addr) == "BBBB"
	})
	if n := strings.Count(demo.Output(), "starting nginx"); n != 1 {
		t.Errorf("nginx was started %d times, want once: the rest are reloads", n)
	}

	// The last one goes: nginx keeps the configuration that it can use.
	del(t, etcd, "b")
	demo.WaitFor("Config check failed: exit status 1")
	if got := get(addr); got != "B" {
		t.Errorf("without endpoints: got %q, want B still", got)
	}
	demo.Signal(syscall.SIGTERM)
}

// backend serves its name, and returns its address.
func backend(t *testing.T, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func put(t *testing.T, etcd *etcdtest.Server, id, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := etcd.Client().Put(ctx, "/services/docker-meetup-demo-web/"+id, addr); err != nil {
		t.Fatal(err)
	}
}

func del(t *testing.T, etcd *etcdtest.Server, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := etcd.Client().Delete(ctx, "/services/docker-meetup-demo-web/"+id); err != nil {
		t.Fatal(err)
	}
}

// get returns the answer, or "" where there is none.
func get(addr string) string {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + addr + "/")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}
