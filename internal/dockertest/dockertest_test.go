package dockertest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"muster/internal/proctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestStart builds an image and reaches a container through its published port.
func TestStart(t *testing.T) {
	hello(t, Start(t))
}

// hello runs a container that says hello, and returns when it was heard.
func hello(t *testing.T, e *Engine) {
	t.Helper()
	context := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(context, "serve"), "./testdata/serve")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	const dockerfile = "FROM scratch\nCOPY serve /serve\nENTRYPOINT [\"/serve\"]\n"
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("dockertest-%d", os.Getpid()) // the engine may serve others too
	e.Docker(t, "build", "-q", "-t", name, context)
	e.Docker(t, "run", "-d", "--name", name, "-p", e.Host+"::8080", name)
	t.Cleanup(func() {
		e.Docker(t, "rm", "-f", name)
		e.Docker(t, "rmi", "-f", name)
	})
	addr := e.Published(t, name, 8080)
	proctest.Eventually(t, "hello from "+addr, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		text, _ := io.ReadAll(conn)
		return string(text) == "hello\n"
	})
}
