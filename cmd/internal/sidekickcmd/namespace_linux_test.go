package sidekickcmd_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for namespaces")
	}
}

// inNetwork runs the binary on a machine that has, beside loopback, eth7 with
// two addresses, 10.7.0.5 and fd07::5, and eth8 with two of the same family; and
// it returns where its status is. It has no etcd.
func inNetwork(t *testing.T, env []string, args ...string) (socket string, log *bytes.Buffer, done <-chan int) {
	t.Helper()
	needRoot(t)
	proctest.Need(t, "ip")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const network = `set -e
ip link set lo up
ip link add eth7 type veth peer name far7
ip addr add 10.7.0.5/24 dev eth7
ip -6 addr add fd07::5/64 dev eth7 nodad
ip link set far7 up
ip link set eth7 up
ip link add eth8 type veth peer name far8
ip addr add 10.8.0.5/24 dev eth8
ip addr add 10.8.0.6/24 dev eth8
ip link set far8 up
ip link set eth8 up
exec "$0" "$@"`
	socket = filepath.Join(t.TempDir(), "status")
	cmd := exec.Command("sh", append([]string{"-c", network, path, "-status", "unix:" + socket}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	log = new(bytes.Buffer)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	code := make(chan int, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the code says it
		code <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return socket, log, code
}

func TestTheAddressIsChosen(t *testing.T) {
	for name, tt := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"as the route to etcd":              {nil, []string{"-addr", ":80", "-store", "etcd://10.7.0.1"}, "10.7.0.5:80"},
		"as the route to the second member": {nil, []string{"-addr", ":80", "-store", "etcd://203.0.113.1,10.7.0.1:2379"}, "10.7.0.5:80"},
		"as the route to etcd by IPv6":      {nil, []string{"-addr", ":80", "-store", "etcd://[fd07::1]:2379"}, "[fd07::5]:80"},
		"as the interface":                  {nil, []string{"-addr", ":80", "-interface", "eth7"}, "10.7.0.5:80"},
		"as the interface and the network":  {nil, []string{"-addr", ":80", "-interface", "eth7", "-cidr", "fd00::/8"}, "[fd07::5]:80"},
		"as the network":                    {nil, []string{"-addr", ":80", "-cidr", "10.7.0.0/16"}, "10.7.0.5:80"},
		"as the flag, not the environment":  {[]string{"HOST_IP=10.9.9.9"}, []string{"-addr", ":80", "-cidr", "10.7.0.0/16"}, "10.7.0.5:80"},
		"as MUSTER_*, not HOST_IP":          {[]string{"HOST_IP=10.9.9.9", "MUSTER_INTERFACE=eth7"}, []string{"-addr", ":80"}, "10.7.0.5:80"},
		"as HOST_IP":                        {[]string{"HOST_IP=10.9.9.9", "COREOS_PRIVATE_IPV4=10.9.9.8"}, []string{"-addr", ":80"}, "10.9.9.9:80"},
		"as CoreOS":                         {[]string{"COREOS_PRIVATE_IPV4=10.9.9.8"}, []string{"-addr", ":80"}, "10.9.9.8:80"},
		"as given":                          {[]string{"HOST_IP=10.9.9.9"}, []string{"-addr", "10.1.1.1:80"}, "10.1.1.1:80"},
		"as MUSTER_ADDR":                    {[]string{"HOST_IP=10.9.9.9", "MUSTER_ADDR=:81"}, nil, "10.9.9.9:81"},
		"with a port that is free":          {nil, []string{"-addr", ":0", "-interface", "eth7", "-port-env", "PORT", "--", "sleep", "infinity"}, "10.7.0.5:"},
	} {
		t.Run(name, func(t *testing.T) {
			socket, log, done := inNetwork(t, tt.env, append([]string{"web", "-health", "none"}, tt.args...)...)
			for there := false; !there; time.Sleep(5 * time.Millisecond) {
				_, err := os.Stat(socket)
				there = err == nil
				if len(done) > 0 {
					t.Fatalf("it has ended: %s", log)
				}
			}
			r := reportAt(t, socket)
			if r.Addr != tt.want && (!strings.HasSuffix(tt.want, ":") || !strings.HasPrefix(r.Addr, tt.want) || r.Addr == tt.want+"0") {
				t.Errorf("got %s: want %s\n%s", r.Addr, tt.want, log)
			}
			if r.ID != r.Addr {
				t.Errorf("ID: got %s: want the address, %s", r.ID, r.Addr)
			}
		})
	}
}

func TestNoAddressIsAnErrorThatNamesTheCandidates(t *testing.T) {
	for name, tt := range map[string]struct {
		env  []string
		args []string
		code int
		want []string
	}{
		"no such interface":     {nil, []string{"-interface", "eth9"}, 1, []string{"-interface eth9: no address", "127.0.0.1 (lo)", "10.7.0.5 (eth7)", "fd07::5 (eth7)"}},
		"nothing in it":         {nil, []string{"-cidr", "192.168.0.0/16"}, 1, []string{"-cidr 192.168.0.0/16: no address", "10.8.0.6 (eth8)"}},
		"more than one":         {nil, []string{"-interface", "eth8"}, 1, []string{"more than one address fits: 10.8.0.5 (eth8), 10.8.0.6 (eth8)"}},
		"etcd on this machine":  {nil, nil, 1, []string{"etcd at 127.0.0.1:2379 is on this machine", "-interface or -cidr; it has", "10.7.0.5 (eth7)"}},
		"no route to etcd":      {nil, []string{"-store", "etcd://203.0.113.1"}, 1, []string{"network is unreachable", "fd07::5 (eth7)"}},
		"HOST_IP is no address": {[]string{"HOST_IP=node7"}, nil, 2, []string{`environment variable HOST_IP="node7": want an IP address`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, log, done := inNetwork(t, tt.env, append([]string{"web", "-addr", ":80"}, tt.args...)...)
			select {
			case code := <-done:
				if code != tt.code {
					t.Errorf("exit code: got %d: want %d", code, tt.code)
				}
			case <-time.After(patience):
				t.Fatalf("it runs")
			}
			for _, want := range tt.want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("got %s: want %q in it", log, want)
				}
			}
		})
	}
}

// zombies counts the children of pid that have ended and nobody waited for, and
// those that live.
func zombies(t *testing.T, pid int) (dead, living int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has gone
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if fields[0] == "Z" {
			dead++
		} else {
			living++
		}
	}
	return dead, living
}

// As process 1 the sidekick is the parent of every orphan, also of those that
// have left the app's process group. It waits for them all, and for nobody whom
// somebody else waits for.
func TestReapsAsProcess1(t *testing.T) {
	needRoot(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	etcd := etcdtest.Start(t)
	// 10 daemons, each in a session of its own, which live until go is there.
	dir := t.TempDir()
	app := fmt.Sprintf(`for i in 1 2 3 4 5 6 7 8 9 10; do
	(setsid sh -c 'while [ ! -e %[1]s/go ]; do sleep 0.05; done' &)
done
trap "exit 9" TERM
echo ready
while :; do sleep 0.02; done`, dir)
	cmd := exec.Command("unshare", "-p", "-f", "--mount-proc", "--kill-child=KILL", path, "web", "-addr", "10.0.0.5:8080",
		"-health", "exec:sleep 0.01; setsid sleep 0.02 >/dev/null 2>&1 & true", "-interval", "10ms", "-timeout", "30s", "-fall", "1", "-drain", "0",
		"-store", "etcd://"+etcd.Addr(), "--", "sh", "-c", app)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was waited for, or killed
		if t.Failed() {
			t.Logf("log:\n%s", &log)
		}
	}()
	ready := make([]byte, 6)
	if _, err := out.Read(ready); err != nil || string(ready) != "ready\n" {
		t.Fatalf("the app said %q, %v", ready, err)
	}
	pid := child1(t, cmd.Process.Pid)
	announced(t, etcd)
	until := func(what string, done func(dead, living int) bool) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for {
			dead, living := zombies(t, pid)
			if done(dead, living) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d zombies and %d children that live, after %v", what, dead, living, patience)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	until("10 orphans and the app", func(_, living int) bool { return living >= 11 })
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	until("the app alone", func(dead, living int) bool { return dead == 0 && living <= 2 }) // and a check
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if strings.Contains(log.String(), "level=WARN") {
		t.Error("a check lost its exit code")
	}
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit code: got %d: want the app's, 9", code)
	}
	if left := keys(t, etcd); len(left) > 0 {
		t.Errorf("%q are still announced", left)
	}
}

// child1 is the one child of pid.
func child1(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("children of %d: %q: want one", pid, text)
	}
	return child
}
