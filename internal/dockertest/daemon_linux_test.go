package dockertest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"muster/internal/proctest"
)

// ours is an engine that was started here, with a container running in it. It
// leaves nothing behind when the test has ended.
func ours(t *testing.T) *Engine {
	var e *Engine
	t.Cleanup(func() { // the last one, after the engine's
		if e != nil && e.daemon != nil {
			wantNothing(t, e.daemon.dir, e.daemon.cable())
		}
	})
	e = Start(t)
	if e.daemon == nil {
		t.Skip("an engine runs already")
	}
	hello(t, e)
	if got := left(t, e.daemon.dir, e.daemon.cable()); len(got) < 5 {
		t.Fatalf("a running engine shows as %q, want its folder, cable, cgroup, dockerd and the container at least", got)
	}
	return e
}

// TestRunningEngine is Start where an engine runs: inside the network of one of
// ours, which is like a machine with one.
func TestRunningEngine(t *testing.T) {
	e := ours(t)
	nsenter := proctest.Need(t, "nsenter")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nsenter, "-n", "-t", strconv.Itoa(e.daemon.cmd.Process.Pid), self, "-test.run", "^TestStart$", "-test.v")
	cmd.Env = e.Environ()
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestStart")) {
		t.Fatalf("beside a running engine: %v\n%s", err, out)
	}
	if n := len(strings.Fields(e.Docker(t, "ps", "-q"))); n != 1 {
		t.Errorf("%d containers run after the test in the same engine, want only the one from before", n)
	}
}

// TestKilled kills a test that has an engine: nothing runs any longer, though no
// Cleanup ran.
func TestKilled(t *testing.T) {
	if os.Getenv("DOCKERTEST_HOLD") != "" {
		e := ours(t)
		fmt.Println("holding", e.daemon.dir, e.daemon.cable())
		select {}
	}
	e := &Engine{client: proctest.Need(t, "docker")}
	if _, err := e.run("version"); err == nil {
		t.Skip("an engine runs already")
	}
	proctest.Need(t, "dockerd")
	if os.Geteuid() != 0 {
		missing(t, "needs root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	held := proctest.Start(t, "test", append(os.Environ(), "DOCKERTEST_HOLD=1"), self, "-test.run", "^TestKilled$")
	words := strings.Fields(held.WaitFor("holding"))
	dir, cable := words[1], words[2]
	held.Signal(syscall.SIGKILL)
	held.Wait()
	proctest.Eventually(t, "the end of its processes, its cable and its mounts", func() bool {
		return !slices.ContainsFunc(left(t, dir, cable), func(what string) bool {
			return !strings.HasPrefix(what, "folder ") && !strings.HasPrefix(what, "cgroup ")
		})
	})
	// What the kernel does not take away by itself is an almost empty folder and
	// empty cgroups.
	d := &daemon{dir: dir, cgroup: filepath.Base(dir)}
	if err := d.removeCgroups(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	wantNothing(t, dir, cable)
}

func wantNothing(t *testing.T, dir, cable string) {
	t.Helper()
	if found := left(t, dir, cable); len(found) > 0 {
		t.Errorf("the engine in %s at %s left behind:\n%s", dir, cable, strings.Join(found, "\n"))
	}
}

// left is what there is of the engine in dir at cable.
func left(t *testing.T, dir, cable string) (found []string) {
	t.Helper()
	if _, err := os.Stat(dir); err == nil {
		found = append(found, "folder "+dir)
	}
	if _, err := net.InterfaceByName(cable); err == nil {
		found = append(found, "cable "+cable)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		groups, err := filepath.Glob(pattern + filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range groups {
			found = append(found, "cgroup "+group)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			found = append(found, "mount "+line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		// The engine's own say dir, containers are in its cgroups.
		words, _ := os.ReadFile(p + "/cmdline")
		groups, _ := os.ReadFile(p + "/cgroup")
		if bytes.Contains(words, []byte(dir)) || bytes.Contains(groups, []byte(filepath.Base(dir))) {
			found = append(found, fmt.Sprintf("process %s %q", filepath.Base(p), words))
		}
	}
	return found
}
