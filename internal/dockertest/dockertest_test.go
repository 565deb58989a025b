package dockertest_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"muster/internal/dockertest"
	"muster/internal/proctest"
)

func TestMain(m *testing.M) {
	if os.Getenv("DOCKERTEST_SERVE") != "" {
		serve()
	}
	goleak.VerifyTestMain(m)
}

// serve is what the containers run: this binary, which says hello.
func serve() {
	l, err := net.Listen("tcp", ":8080")
	for err == nil {
		var conn net.Conn
		if conn, err = l.Accept(); err == nil {
			fmt.Fprintln(conn, "hello")
			conn.Close()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestStart builds an image, reaches a container's published port, and leaves
// nothing behind.
func TestStart(t *testing.T) {
	var e *dockertest.Engine
	before := state(t)
	t.Run("engine", func(t *testing.T) {
		e = dockertest.Start(t)
		context := t.TempDir()
		build(t, filepath.Join(context, "serve"))
		write(t, filepath.Join(context, "Dockerfile"), "FROM scratch\nCOPY serve /serve\nENV DOCKERTEST_SERVE=1\nENTRYPOINT [\"/serve\"]\n")
		image, name := unique("image"), unique("hello")
		e.Docker(t, "build", "-q", "-t", image, context)
		defer e.Docker(t, "rmi", "-f", image)
		e.Docker(t, "run", "-d", "--name", name, "-p", e.Host+"::8080", image)
		defer e.Docker(t, "rm", "-f", name)
		addr := e.Published(t, name, 8080)
		proctest.Eventually(t, "hello from "+addr, func() bool { return dial(addr) == "hello\n" })
	})
	if after := state(t); after != before {
		t.Errorf("the engine left something behind:\n%s\nbefore there was\n%s", after, before)
	}
}

// build makes a static copy of this test binary.
func build(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command("go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func unique(name string) string { return fmt.Sprintf("dockertest-%s-%d", name, os.Getpid()) }

func dial(addr string) string {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return ""
	}
	defer conn.Close()
	var b [64]byte
	n, _ := conn.Read(b[:])
	return string(b[:n])
}

// state is what an engine of ours may leave behind on this machine: folders,
// mounts, cgroups, network links, processes.
func state(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	for _, pattern := range []string{os.TempDir() + "/dockertest*", "/sys/fs/cgroup/dockertest*", "/sys/fs/cgroup/*/dockertest*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&s, found)
	}
	return s.String()
}

