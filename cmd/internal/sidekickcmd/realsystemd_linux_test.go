package sidekickcmd_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// inSystemd prepares the namespaces and becomes systemd. Its arguments are the
// folder of our units and the name of our cgroup. Nothing of the machine's is
// started, as systemd looks for units in that folder alone; with its process 1
// all of it is gone.
const inSystemd = `set -e
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs tmpfs /run
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then top=/sys/fs/cgroup; else top=/sys/fs/cgroup/systemd; fi
mkdir $top/$1
echo $$ >$top/$1/cgroup.procs
export container=test SYSTEMD_UNIT_PATH=$0 top
exec unshare -C sh -ec '
	if [ $top = /sys/fs/cgroup ]; then
		mount -t cgroup2 cgroup2 $top
	else
		mount -t tmpfs tmpfs /sys/fs/cgroup
		mkdir $top
		mount -t cgroup -o none,name=systemd cgroup $top
	fi
	exec /lib/systemd/systemd --unit=test.target --log-target=console --show-status=no'`

// A systemd is a real one, in namespaces of its own, but for the network.
type systemd struct {
	*testing.T
	units string // the folder
	pid   int    // of it, for us
}

func startSystemd(t *testing.T) *systemd {
	t.Helper()
	proctest.Need(t, "systemctl")
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := &systemd{T: t, units: t.TempDir()}
	s.write("test.target", "[Unit]\nDescription=test\n")
	name := fmt.Sprintf("sidekicktest%d", os.Getpid())
	cmd := exec.Command("sh", "-c", inSystemd, s.units, name)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("systemd said\n%s", &said)
		}
		removeCgroups(t, name)
	})
	deadline := time.Now().Add(patience)
	for state := ""; state != "running"; time.Sleep(20 * time.Millisecond) {
		state, _ = s.ctl("is-system-running")
		if time.Now().After(deadline) {
			t.Fatalf("systemd is %q after %v", state, patience)
		}
	}
	return s
}

// removeCgroups removes what systemd made below ours.
func removeCgroups(t *testing.T, name string) {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	for _, top := range append(tops, filepath.Join("/sys/fs/cgroup", name)) {
		var groups []string
		_ = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for _, g := range slices.Backward(groups) {
			if err := os.Remove(g); err != nil {
				t.Logf("cgroup: %v", err)
			}
		}
	}
}

func (s *systemd) write(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.units, name), []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
}

// ctl runs systemctl there and returns what it said.
func (s *systemd) ctl(args ...string) (string, error) {
	args = append([]string{"-t", strconv.Itoa(s.pid), "-m", "-p", "--", "systemctl"}, args...)
	out, err := exec.CommandContext(s.Context(), "nsenter", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *systemd) must(args ...string) string {
	s.Helper()
	out, err := s.ctl(args...)
	if err != nil {
		s.Fatalf("systemctl %q: %v: %s", args, err, out)
	}
	return out
}

func (s *systemd) show(unit, property string) string {
	s.Helper()
	return s.must("show", "--value", "-p", property, unit)
}

// until waits for a property of a unit.
func (s *systemd) until(unit, property, want string) {
	s.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got := s.show(unit, property)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s: %s=%s after %v: want %s", unit, property, got, patience, want)
		}
	}
}

// The unit that is printed, beside an app's, as systemd runs them.
func TestThePrintedUnitUnderSystemd(t *testing.T) {
	s := startSystemd(t)
	etcd := etcdtest.Start(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const key, meta = "/services/web/127.0.0.1:8080", "/services.meta/web/127.0.0.1:8080"
	const app, sidekick = "web@8080.service", "web-sidekick@8080.service"
	s.write("web@.service", "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n")
	text := printed(t, "web", "-addr", "127.0.0.1:%i", "-health", "systemd:web@%i.service", "-health", `exec:test "$$HOME" = a\ b`,
		"-interval", "50ms", "-drain", "3s", "-ttl", "10s", "-binary", path, "-store", "etcd://"+etcd.Addr())
	// Less time than the drain takes: systemd has to be told.
	text = regexp.MustCompile(`TimeoutStopSec=\d+`).ReplaceAllString(text, "TimeoutStopSec=1\nEnvironment=\"HOME=a b\"")
	s.write("web-sidekick@.service", "[Unit]\nDefaultDependencies=no\n"+text)
	s.must("daemon-reload")
	events := etcd.Client().Watch(t.Context(), "/services", clientv3.WithPrefix())
	next := func(want ...string) {
		t.Helper()
		select {
		case r := <-events:
			var got []string
			for _, ev := range r.Events {
				got = append(got, ev.Type.String()+" "+string(ev.Kv.Key))
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("etcd: got %q: want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("etcd: no %q in %v", want, patience)
		}
	}

	// It is ready when it is announced, and says so.
	s.must("start", sidekick)
	if resp, err := etcd.Client().Get(t.Context(), key); err != nil || resp.Count != 1 {
		t.Fatalf("the unit is started, and etcd has %v, %v: want %s", resp, err, key)
	}
	next("PUT "+meta, "PUT "+key)
	if got := s.show(sidekick, "StatusText"); got != "up" {
		t.Errorf("status: got %q: want up", got)
	}
	if got := s.show(app, "ActiveState"); got != "active" {
		t.Errorf("the app is %s: want it to be started too", got)
	}

	// The app is stopped: first it is withdrawn, and drains while it still runs.
	s.must("stop", "--no-block", app)
	next("DELETE "+key, "PUT "+meta)
	if got := s.show(app, "ActiveState"); got != "active" {
		t.Errorf("the app is %s while it drains: want active", got)
	}
	next("DELETE " + meta)
	s.until(app, "ActiveState", "inactive")
	if got := s.show(sidekick, "Result"); got != "success" {
		t.Errorf("the sidekick's result: got %s: want success, as systemd was told how long it takes", got)
	}

	// The app dies: it is withdrawn, as the check says or as the unit ends.
	s.must("start", sidekick)
	next("PUT "+meta, "PUT "+key)
	s.must("kill", "-s", "KILL", app)
	s.until(sidekick, "ActiveState", "inactive")
	if left, err := etcd.Client().Get(t.Context(), "/services", clientv3.WithPrefix()); err != nil || left.Count != 0 {
		t.Errorf("the app is dead, and etcd has %v, %v: want nothing", left, err)
	}
}

func TestTheCheckOfAUnit(t *testing.T) {
	s := startSystemd(t)
	etcd := etcdtest.Start(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "status")
	s.write("app.service", "[Unit]\nDefaultDependencies=no\n[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'while [ ! -e "+dir+"/go ]; do sleep 0.05; done; systemd-notify --ready; exec sleep infinity'\n")
	s.write("sidekick.service", fmt.Sprintf("[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=%s app -addr 127.0.0.1:80 -health systemd:app -start-period 0 -interval 50ms -status unix:%s -store etcd://%s\n", path, socket, etcd.Addr()))
	s.must("start", "sidekick.service")
	expect := func(state, reason string, announced bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			r := reportAt(t, socket)
			if r.State == state && strings.Contains(r.Reason, reason) && r.Announced == announced {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %+v: want %s, %q, announced %v", r, state, reason, announced)
			}
		}
	}
	expect("failing", "the unit is inactive (dead): want active", false)
	s.must("start", "--no-block", "app.service")
	s.until("app.service", "ActiveState", "activating")
	if r := reportAt(t, socket); r.Announced {
		t.Errorf("announced while the unit is activating: %+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	expect("up", "", true)
	s.must("kill", "-s", "KILL", "app.service")
	expect("failing", "the unit is failed (failed): want active", false)
}

// A sidekick that does nothing any more is ended by systemd's watchdog, and
// started again.
func TestTheWatchdogOfSystemd(t *testing.T) {
	s := startSystemd(t)
	etcd := etcdtest.Start(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	text := printed(t, "web", "-addr", "127.0.0.1:80", "-health", "none", "-binary", path, "-store", "etcd://"+etcd.Addr(), "--", "sleep", "infinity")
	if !strings.Contains(text, "\nWatchdogSec=30\n") {
		t.Fatalf("no watchdog in the unit:\n%s", text)
	}
	s.write("web.service", "[Unit]\nDefaultDependencies=no\n"+strings.Replace(text, "WatchdogSec=30", "WatchdogSec=4", 1))
	s.must("start", "web.service")
	if got := s.show("web.service", "WatchdogTimestampMonotonic"); got == "" || got == "0" {
		t.Errorf("the watchdog got no ping: %q", got)
	}
	s.must("kill", "--kill-who=main", "-s", "STOP", "web.service")
	s.until("web.service", "NRestarts", "1")
	s.until("web.service", "ActiveState", "active")
}
