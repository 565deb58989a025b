//go:build containers

package sidekick

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/internal/dockertest"
)

// The check of a container, by a real engine.
func TestDockerCheck(t *testing.T) {
	e := dockertest.Start(t)
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "app"), "./testdata/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	image := func(tag, health string) string {
		name := fmt.Sprintf("sidekick-%s-%d", tag, os.Getpid()) // the engine may serve others too
		text := "FROM scratch\nCOPY app /app\n" + health + "ENTRYPOINT [\"/app\"]\n"
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		e.Docker(t, "build", "-q", "-t", name, dir)
		t.Cleanup(func() {
			e.Docker(t, "rm", "-f", name)
			e.Docker(t, "rmi", name)
		})
		return name
	}
	plain := image("plain", "")
	healthy := image("healthy", "HEALTHCHECK --interval=100ms --timeout=30s --retries=1 CMD [\"/app\", \"check\"]\n")

	at := scene{docker: defaultDockerHost}
	for _, v := range e.Environ() {
		if host, ok := strings.CutPrefix(v, "DOCKER_HOST="); ok {
			at.docker = host // the last one counts
		}
	}
	check := func(container string) error {
		_, err := runChecks(t.Context(), []check{mustParse(t, "docker:"+container, at)}, 30*time.Second)
		return err
	}
	until := func(container, want string) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if err = check(container); (err == nil) == (want == "") && (err == nil || strings.Contains(err.Error(), want)) {
				return
			}
		}
		t.Fatalf("%s: got %v: want %q", container, err, want)
	}

	if err := check(plain); err == nil || !strings.Contains(err.Error(), "got status 404") || !strings.Contains(err.Error(), "No such container") {
		t.Errorf("no container: got %v: want what the engine says", err)
	}
	e.Docker(t, "run", "-d", "--name", plain, plain)
	until(plain, "") // without a HEALTHCHECK it has to run
	e.Docker(t, "pause", plain)
	until(plain, "the container is paused: want running")
	e.Docker(t, "unpause", plain)
	until(plain, "")
	e.Docker(t, "kill", plain)
	until(plain, "the container is exited (exit code 137): want running")

	e.Docker(t, "run", "-d", "--name", healthy, healthy)
	until(healthy, `the container is unhealthy: "not yet"`)
	e.Docker(t, "exec", healthy, "/app", "well")
	until(healthy, "")
	e.Docker(t, "exec", healthy, "/app", "ill")
	until(healthy, "the container is unhealthy")

	// One that ends again and again is running while it waits, as the engine has it.
	e.Docker(t, "run", "-d", "--name", plain+"-ends", "--restart", "always", plain, "check")
	defer e.Docker(t, "rm", "-f", plain+"-ends")
	until(plain+"-ends", "the container is restarting (exit code 1): want running")

	at.docker = "unix:///does/not/exist"
	if err := check(healthy); err == nil || !strings.Contains(err.Error(), "docker: dial unix /does/not/exist") {
		t.Errorf("no engine: got %v", err)
	}
}
