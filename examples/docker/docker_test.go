//go:build containers

// One machine with a Docker engine and nothing else: muster proxy and confd follow
// its containers.
package docker_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/internal/dockertest"
	"muster/internal/proctest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proctest.Clean()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// A machine is an engine, the balancer and confd.
type machine struct {
	*dockertest.Engine
	t      *testing.T
	name   string // begins those of our containers
	url    string // of the balancer
	config string // confd's file
}

func start(t *testing.T) *machine {
	e := dockertest.Start(t)
	m := &machine{Engine: e, t: t, name: fmt.Sprintf("muster-docker-%d-", os.Getpid())}
	dir := t.TempDir()
	env := []string{"DOCKER_HOST=unix://" + e.Socket()}

	addr := proctest.FreeAddr(t)
	m.url = "http://" + addr
	proctest.Start(t, "muster", env, proctest.Build(t, "muster/cmd/muster"),
		"proxy", "-store", "docker:", "-listen", addr, "-admin", "", "-default", "web", "-state", filepath.Join(dir, "state")).WaitFor("listening")

	// The example's files, without nginx.
	m.config = filepath.Join(dir, "web.conf")
	for from, to := range map[string]string{"web.toml": "conf.d/web.toml", "web.tmpl": "templates/web.tmpl"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		mine := strings.NewReplacer("/etc/nginx/conf.d/web.conf", m.config, " && nginx -t", "", `reload_cmd = "test`, `#`).Replace(string(text))
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(to)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), []byte(mine), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	proctest.Start(t, "confd", nil, proctest.Build(t, "muster/cmd/confd"),
		"-backend", "docker", "-node", "unix://"+e.Socket(), "-watch", "-confdir", dir)
	return m
}

// run starts a container of image as name, published on a port that Docker chooses.
func (m *machine) run(name, image string, flags ...string) {
	m.t.Helper()
	args := append([]string{"run", "-d", "--name", m.name + name, "--hostname", name, "-p", m.Host + "::8080", "--label", "muster.service=web"}, flags...)
	m.Docker(m.t, append(args, image)...)
}

func (m *machine) do(command, name string, more ...string) {
	m.t.Helper()
	m.Docker(m.t, append([]string{command, m.name + name}, more...)...)
}

// until waits until those containers answer, each of them and nobody else, and
// confd's file has their addresses. Without any the balancer says 503, and the file
// stays as it was, as confd's check asks for.
func (m *machine) until(names ...string) {
	m.t.Helper()
	answers := make(map[string]int)
	deadline := time.Now().Add(2 * time.Minute)
	for clean := 0; clean < 20; {
		who := m.ask()
		if len(names) == 0 && who == "503" || slices.Contains(names, who) {
			clean++
		} else {
			clean = 0
			clear(answers)
		}
		answers[who]++
		if time.Now().After(deadline) {
			m.t.Fatalf("want %q to answer, and nobody else: got %v", names, answers)
		}
		if clean == 20 && len(names) > len(answers) {
			clean = 0 // chance has left one out
		}
	}
	m.t.Logf("answers: %v", answers)
	if len(names) == 0 {
		return
	}
	var want []string
	for _, name := range names {
		want = append(want, m.Published(m.t, m.name+name, 8080))
	}
	slices.Sort(want)
	var got []string
	proctest.Eventually(m.t, fmt.Sprintf("%q in confd's file", want), func() bool {
		text, _ := os.ReadFile(m.config)
		set := make(map[string]bool)
		for _, server := range regexp.MustCompile(`server (\S+:\d+);`).FindAllStringSubmatch(string(text), -1) {
			set[server[1]] = true
		}
		got = slices.Sorted(maps.Keys(set))
		return slices.Equal(got, want)
	})
}

// ask returns who answered, or the status.
func (m *machine) ask() string {
	resp, err := http.Get(m.url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.StatusCode)
	}
	return strings.TrimSpace(string(body))
}

// TestContainers is the life of containers on one machine: started, stopped,
// killed, made unhealthy, and the engine restarted.
func TestContainers(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	m := start(t)
	m.until()
	plain := m.Image(t, "muster/internal/docker/testdata/app", "EXPOSE 8080")
	checked := m.Image(t, "muster/internal/docker/testdata/app", "EXPOSE 8080",
		`HEALTHCHECK --interval=200ms --timeout=30s --retries=1 CMD ["/app", "check"]`)
	m.run("a", plain, "--restart", "always")
	m.until("a")
	m.run("b", checked)
	m.run("c", plain)
	m.until("a", "c") // b is not healthy yet
	m.do("exec", "b", "/app", "well")
	m.until("a", "b", "c")
	m.do("stop", "c")
	m.until("a", "b")
	m.do("start", "c")
	m.until("a", "b", "c")
	m.do("kill", "c")
	m.until("a", "b")
	m.do("exec", "b", "/app", "ill")
	m.until("a")
	m.do("exec", "b", "/app", "well")
	m.until("a", "b")
	m.do("pause", "b")
	m.until("a")

	m.Stop(t, syscall.SIGKILL)
	for range 20 { // what was known stays
		if who := m.ask(); who != "a" {
			t.Errorf("without an engine: got an answer of %q: want a", who)
		}
	}
	m.Start(t)
	m.until("a")
	// Ends the containers, and may hang up before it has told.
	m.Stop(t, syscall.SIGTERM)
	m.Start(t)
	m.until("a")
	m.run("d", plain)
	m.until("a", "d")
}
