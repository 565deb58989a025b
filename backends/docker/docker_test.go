package docker

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/catalog"
	"muster/internal/docker"
)

func TestOpen(t *testing.T) {
	env := map[string]string{"DOCKER_HOST": "unix:///run/user/1/docker.sock", "HOST_IP": "10.0.0.5"}
	for _, test := range []struct {
		url  string
		env  map[string]string
		want docker.Config
		keys string
	}{
		{"docker:", nil, docker.Config{}, "/services"},
		{"docker:", env, docker.Config{Host: "unix:///run/user/1/docker.sock", HostIP: "10.0.0.5"}, "/services"},
		{"docker:/x.sock", env, docker.Config{Host: "unix:///x.sock", HostIP: "10.0.0.5"}, "/services"},
		{"docker:///x.sock?network=n&host=h&prefix=k/l/", env, docker.Config{Host: "unix:///x.sock", Network: "n", HostIP: "h"}, "/k/l"},
		{"docker:?network=n", nil, docker.Config{Network: "n"}, "/services"},
		{"docker://10.0.0.6:2375", nil, docker.Config{Host: "tcp://10.0.0.6:2375"}, "/services"},
		{"unix:///x.sock", nil, docker.Config{Host: "unix:///x.sock"}, "/services"},
		{"tcp://10.0.0.6:2375?prefix=/k", nil, docker.Config{Host: "tcp://10.0.0.6:2375"}, "/k"},
	} {
		s, err := Open(test.url, func(name string) string { return test.env[name] }, nil)
		if err != nil {
			t.Errorf("Open(%q): %v", test.url, err)
			continue
		}
		if diff := cmp.Diff(test.want, s.cfg); diff != "" || s.prefix != test.keys {
			t.Errorf("Open(%q): prefix %q, want %q; -want +got\n%s", test.url, s.prefix, test.keys, diff)
		}
	}
	for url, want := range map[string]string{
		"docker:x":              `store "docker:x": want docker:, docker:/PATH of a socket, or docker://HOST:PORT`,
		"docker:ssh://h":        "want docker:, docker:/PATH",
		"docker://h":            `docker host "tcp://h": want unix:///PATH or tcp://HOST:PORT`,
		"docker:?net=x":         `unknown parameter "net": want network, host or prefix`,
		"docker:?prefix=/":      "prefix: want a path such as /services",
		"docker:?prefix=%zz":    "invalid URL escape",
		"docker:?host=1.2.3.4/": "host address",
	} {
		if s, err := Open(url, func(string) string { return "" }, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): got %+v, %v: want %q", url, s, err, want)
		}
	}
}

// TLS is where Docker's own client has it, and the certificates are looked at now.
func TestCerts(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": "/h"}, ""},
		{map[string]string{"DOCKER_CERT_PATH": "/c", "HOME": "/h"}, "/c"},
		{map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/c", "HOME": "/h"}, "/c"},
		{map[string]string{"DOCKER_TLS_VERIFY": "1", "HOME": "/h"}, "/h/.docker"},
		{map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": "/d", "HOME": "/h"}, "/d"},
	} {
		getenv := func(name string) string { return c.env[name] }
		if got := certs(getenv); got != c.want {
			t.Errorf("%v: got %q, want %q", c.env, got, c.want)
		}
		_, err := Open("docker://127.0.0.1:1", getenv, nil)
		if wrong := err != nil && strings.Contains(err.Error(), c.want+"/ca.pem"); wrong != (c.want != "") {
			t.Errorf("%v: got %v, want one error where a folder is missing", c.env, err)
		}
		if _, err := Open("docker:/x.sock", getenv, nil); err != nil {
			t.Errorf("%v: a socket has no TLS: %v", c.env, err)
		}
	}
}

// What is up has both keys, what starts or drains only the metadata.
func TestKeys(t *testing.T) {
	s := &Store{prefix: "/k"}
	app := func(id string, state catalog.State) docker.App {
		return docker.App{Service: "web", ID: id, Announcement: catalog.Announcement{Addr: "10.0.0.1:80", State: state}}
	}
	apps := []docker.App{app("1", catalog.Up), app("2", catalog.Starting), app("3", catalog.Draining)}
	for prefixes, want := range map[string][]string{
		"/k":          {"/k/web/1"},
		"/k.meta":     {"/k.meta/web/1", "/k.meta/web/2", "/k.meta/web/3"},
		"/k.meta/web": {"/k.meta/web/1", "/k.meta/web/2", "/k.meta/web/3"},
		"/k,/k.meta":  {"/k/web/1", "/k.meta/web/1", "/k.meta/web/2", "/k.meta/web/3"},
		"/":           {"/k/web/1", "/k.meta/web/1", "/k.meta/web/2", "/k.meta/web/3"},
		"/k/we":       nil,
	} {
		var keys []string
		for _, kv := range s.keys(apps, strings.Split(prefixes, ",")) {
			keys = append(keys, kv.Key)
			if strings.HasPrefix(kv.Key, "/k/") && kv.Value != "10.0.0.1:80" {
				t.Errorf("%s: got %q", kv.Key, kv.Value)
			}
		}
		if diff := cmp.Diff(want, keys); diff != "" {
			t.Errorf("under %s: -want +got\n%s", prefixes, diff)
		}
	}
}

// An engine that is not there is one error that says what to do, and the watch goes
// on.
func TestAway(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.sock")
	for url, want := range map[string]string{
		"docker:" + none:       "docker: failed to connect to the docker API at unix://" + none + "; check if the path is correct and if the daemon is running",
		"docker://127.0.0.1:1": "docker: Cannot connect to the Docker daemon at tcp://127.0.0.1:1. Is the docker daemon running?",
	} {
		s := open(t, url)
		if _, err := s.Read(t.Context(), []string{"/services"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Read: got %v: want %q", err, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var errs []error
		for c, err := range s.Watch(ctx, []string{"/services"}) {
			if err == nil {
				t.Errorf("got %+v", c)
			}
			errs = append(errs, err)
		}
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("Watch: got %v: want one error", errs)
		}
	}
}

func open(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(url, func(string) string { return "" }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A socket that is not for this user is an error that says so. It takes another user
// to see it, so this test runs itself as nobody.
func TestDenied(t *testing.T) {
	if socket := os.Getenv("DENIED_SOCKET"); socket != "" {
		_, err := open(t, "docker:"+socket).Read(t.Context(), []string{"/services"})
		fmt.Println(err)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be nobody")
	}
	dir, err := os.MkdirTemp("", "denied")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket, self := filepath.Join(dir, "socket"), filepath.Join(dir, "self")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(socket, 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(self, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestDenied$")
	cmd.Dir, cmd.Env = dir, []string{"DENIED_SOCKET=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if want := "docker: permission denied while trying to connect to the docker API at unix://" + socket; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("got %v and\n%s\nwant %q", err, out, want)
	}
}
