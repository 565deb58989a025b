package sidekickcmd_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/internal/etcdtest"
)

const examples = "../../../examples/systemd"

var execStart = regexp.MustCompile(`(?m)^ExecStart=(.*)$`)

// The command line of the unit announces an app that answers at the instance's
// port of this host.
func TestTheExampleUnitAnnounces(t *testing.T) {
	etcd := etcdtest.Start(t)
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	host, port, _ := net.SplitHostPort(app.Listener.Addr().String())

	text, err := os.ReadFile(filepath.Join(examples, "web-sidekick@.service"))
	if err != nil {
		t.Fatal(err)
	}
	line := execStart.FindSubmatch(text)
	if line == nil {
		t.Fatal("no ExecStart in the unit")
	}
	args := strings.Fields(strings.NewReplacer("%i", port, "${HOST_IP}", host).Replace(string(line[1])))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Env = append(os.Environ(), "MUSTER_STORE=etcd://"+etcd.Addr(), "MUSTER_DRAIN=1h") // -drain wins
	cmd.Stderr = t.Output()
	key := "/services/web/" + net.JoinHostPort(host, port)
	events := etcd.Client().Watch(t.Context(), key)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // asked for below, or killed
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	for _, want := range []string{"PUT", "DELETE"} {
		select {
		case r := <-events:
			if len(r.Events) != 1 || r.Events[0].Type.String() != want {
				t.Fatalf("%s: got %v: want one %s", key, r.Events, want)
			}
		case <-time.After(patience):
			t.Fatalf("%s: no %s in %v", key, want, patience)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // the second time it is not to wait for the drain
			t.Error(err)
		}
	}
}

func TestTheExampleUnitsAreClean(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze on this machine")
	}
	dir := t.TempDir()
	units, err := filepath.Glob(filepath.Join(examples, "*@.service"))
	if err != nil || len(units) != 2 {
		t.Fatalf("units: got %q, %v: want 2", units, err)
	}
	args := []string{"verify"}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// The programs need not be on this machine.
		runs := regexp.MustCompile(`(?m)^(Exec\w+=-?)/\S+`).ReplaceAll(text, []byte("${1}/bin/sh"))
		to := filepath.Join(dir, strings.Replace(filepath.Base(unit), "@", "@8080", 1))
		if err := os.WriteFile(to, runs, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, to)
	}
	out, err := exec.Command(analyze, args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
