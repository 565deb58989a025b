// Package dockertest gives tests a Docker engine: the one that runs, or one of
// their own that leaves nothing behind.
//
//	e := dockertest.Start(t)
//	e.Docker(t, "run", "-d", "--name", "web1", "-p", e.Host+"::8080", "web")
//	http.Get("http://" + e.Published(t, "web1", 8080))
//
// An engine of ours is a dockerd started by hand, as root, in network, mount and
// process namespaces of its own. So whatever it does to routes, firewall and
// mounts is gone with it, and so are its containers and the shims between, even
// when the test is killed. From here its network is one cable away:
//
//	test ── Host's other end ══ Host ── iptables ── bridge ── containers
package dockertest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"muster/internal/proctest"
)

// An Engine is a running Docker engine.
type Engine struct {
	// Host is the IP address to publish ports on, and to reach them at.
	Host string

	client string  // docker's path
	socket string  // "": what the client does by itself
	daemon *daemon // nil: not ours
}

// Start returns the engine that docker reaches by itself, or starts one that
// ends with the test. No image can be pulled: build them FROM scratch.
//
// Where docker, dockerd or root is missing, the test is skipped; under
// MUSTER_TEST_ALL it fails.
func Start(tb testing.TB) *Engine {
	tb.Helper()
	e := &Engine{Host: "127.0.0.1", client: proctest.Need(tb, "docker")}
	if _, err := e.run("version"); err == nil {
		return e
	}
	e.start(tb)
	return e
}

// StartTLS starts an engine of the test's own, even beside one that runs, that
// also serves TCP, with TLS and for clients whose certificate the CA has signed;
// see [Engine.TCP]. The arguments are PEM files.
func StartTLS(tb testing.TB, ca, cert, key string) *Engine {
	tb.Helper()
	e := &Engine{client: proctest.Need(tb, "docker")}
	e.start(tb, "--host", "tcp://0.0.0.0:"+tlsPort, "--tlsverify", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key)
	return e
}

// tlsPort is the usual one. The engine has a network of its own.
const tlsPort = "2376"

// start starts a dockerd of ours.
func (e *Engine) start(tb testing.TB, flags ...string) {
	tb.Helper()
	dockerd := proctest.Need(tb, "dockerd")
	if os.Geteuid() != 0 {
		missing(tb, "needs root, or a Docker engine that runs")
	}
	d, err := startDaemon(dockerd, flags...)
	if err != nil {
		tb.Fatalf("dockertest: %v", err)
	}
	e.Host, e.socket, e.daemon = d.host, d.socket, d
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("--- dockerd said\n%s", d.said())
		}
		if err := e.removeContainers(); err != nil {
			tb.Errorf("dockertest: %v", err)
		}
		if err := d.stop(); err != nil {
			tb.Errorf("dockertest: %v", err)
		}
	})
	if err := d.wait(func() error { _, err := e.run("version"); return err }); err != nil {
		tb.Fatalf("dockertest: %v\n%s", err, d.said())
	}
}

// TCP is where an engine of [StartTLS] serves TLS, host:port. Its certificate need
// not be for that address: put a relay of the loopback before it.
func (e *Engine) TCP() string { return net.JoinHostPort(e.Host, tlsPort) }

// Docker runs the client and returns its output without the space around it. A
// failure of the client is one of the test.
func (e *Engine) Docker(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := e.run(args...)
	if err != nil {
		tb.Fatalf("dockertest: %v", err)
	}
	return out
}

// Environ is the environment in which docker, run by something else, reaches
// the engine.
func (e *Engine) Environ() []string {
	env := os.Environ()
	if e.socket != "" {
		env = append(env, "DOCKER_HOST=unix://"+e.socket)
	}
	return env
}

// Published returns the host:port at which a container's TCP port is reached.
func (e *Engine) Published(tb testing.TB, container string, port int) string {
	tb.Helper()
	out := e.Docker(tb, "port", container, strconv.Itoa(port)+"/tcp")
	first, _, _ := strings.Cut(out, "\n") // one line for each address family
	_, published, err := net.SplitHostPort(first)
	if err != nil {
		tb.Fatalf("dockertest: docker port %s %d: %q: %v", container, port, out, err)
	}
	return net.JoinHostPort(e.Host, published)
}

// Socket is the path of the engine's socket.
func (e *Engine) Socket() string {
	if e.socket == "" {
		return "/var/run/docker.sock"
	}
	return e.socket
}

// Image makes an image FROM scratch of a command of this module, which is its
// entry point and takes further lines of a Dockerfile. It is removed, and so is
// every container of it, when the test ends. The engine may serve others too, so
// its name is nobody else's.
func (e *Engine) Image(tb testing.TB, command string, lines ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "app"), command)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("go build %s: %v\n%s", command, err, out)
	}
	text := "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	name := fmt.Sprintf("dockertest-%d-%d", os.Getpid(), images.Add(1))
	e.Docker(tb, "build", "-q", "-t", name, dir)
	tb.Cleanup(func() {
		if ids := e.Docker(tb, "ps", "-aq", "--filter", "ancestor="+name); ids != "" {
			e.Docker(tb, append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...)
		}
		e.Docker(tb, "rmi", "-f", name)
	})
	return name
}

var images atomic.Int64

// Stop ends the engine by a signal. With SIGTERM its containers end too; with
// SIGKILL they run on. The test is skipped where the engine is not ours.
func (e *Engine) Stop(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	e.mine(tb)
	if err := e.daemon.hold(sig); err != nil {
		tb.Fatalf("dockertest: %v", err)
	}
}

// Start starts the engine again and returns when it answers.
func (e *Engine) Start(tb testing.TB) {
	tb.Helper()
	e.mine(tb)
	if err := e.daemon.letGo(); err != nil {
		tb.Fatalf("dockertest: %v", err)
	}
	if err := e.daemon.wait(func() error { _, err := e.run("version"); return err }); err != nil {
		tb.Fatalf("dockertest: %v\n%s", err, e.daemon.said())
	}
}

// Signal sends a signal to the engine alone, such as SIGSTOP.
func (e *Engine) Signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	e.mine(tb)
	if err := e.daemon.signal(sig); err != nil {
		tb.Fatalf("dockertest: %v", err)
	}
}

func (e *Engine) mine(tb testing.TB) {
	tb.Helper()
	if e.daemon == nil {
		tb.Skip("dockertest: the engine serves others too")
	}
}

func (e *Engine) run(args ...string) (string, error) {
	cmd := exec.Command(e.client, args...)
	cmd.Env = e.Environ()
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// removeContainers leaves no container that dockerd would wait for.
func (e *Engine) removeContainers() error {
	ids, err := e.run("ps", "-aq")
	if err != nil || ids == "" {
		return err
	}
	_, err = e.run(append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...)
	return err
}

func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("MUSTER_TEST_ALL") != "" || os.Getenv("CI") != "" {
		tb.Fatal("dockertest: " + what)
	}
	tb.Skip("dockertest: " + what)
}
