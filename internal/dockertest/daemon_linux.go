package dockertest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"muster/internal/proctest"
)

// inside prepares the namespaces and keeps dockerd running in them, but while
// there is a file "hold". Its arguments are a folder of ours and dockerd's command
// line. It is process 1 there: when it ends, everything does.
//
// Images and containers are kept in memory, so that no kill leaves them behind.
// /run is made empty, because containerd's shims keep their sockets there.
// Cgroups are mounted where the machine has none. Debian's iptables speaks
// nftables; a kernel that has no such thing may have the old tables.
const inside = `set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir "$0/data" "$0/exec"
mount -t tmpfs tmpfs "$0/data"
mount -t tmpfs tmpfs "$0/exec"
[ -e /sys/fs/cgroup/cgroup.controllers ] || [ -e /sys/fs/cgroup/devices ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
if ! iptables -t nat -S >/dev/null 2>&1 && iptables-legacy -t nat -S >/dev/null 2>&1; then
	mkdir "$0/bin"
	ln -s "$(command -v iptables-legacy)" "$0/bin/iptables"
	ln -s "$(command -v ip6tables-legacy)" "$0/bin/ip6tables"
	PATH=$0/bin:$PATH
fi
trap 'ending=1; kill "$dockerd"' TERM
while [ -z "$ending" ]; do
	if [ -e "$0/hold" ]; then
		sleep 0.05
		continue
	fi
	"$@" &
	dockerd=$!
	echo $dockerd >"$0/started"
	while kill -0 $dockerd 2>/dev/null; do wait $dockerd || :; done
	[ -e "$0/hold" ] || ending=1
	rm -f "$0/started" # whoever holds it waits for this
done`

// A daemon is a dockerd of ours, with what it needs.
type daemon struct {
	dir    string // everything of it
	socket string
	host   string // its end of the cable
	cgroup string // above those of its containers
	cmd    *exec.Cmd
	exited chan struct{}
	log    log
}

// startDaemon returns when dockerd is started, with flags beside our own, and its
// cable laid; it may not answer yet.
func startDaemon(dockerd string, flags ...string) (*daemon, error) {
	dir, err := os.MkdirTemp("", "dockertest") // short: a socket's path may have 107 bytes
	if err != nil {
		return nil, err
	}
	d := &daemon{dir: dir, socket: filepath.Join(dir, "socket"), cgroup: filepath.Base(dir), exited: make(chan struct{})}
	d.cmd = exec.Command("sh", append([]string{
		"-c", inside, dir,
		dockerd, "--host", "unix://" + d.socket,
		"--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"),
		// systemd would look for our process numbers among its own.
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/" + d.cgroup,
		"--log-level", "error",
	}, flags...)...)
	d.cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Unshareflags: syscall.CLONE_NEWNS, // which also keeps its mounts from us
		Pdeathsig:    syscall.SIGKILL,     // and with process 1 of a namespace all others go
		Setsid:       true,                // Ctrl-C is for the test, which then ends it in order
	}
	if err := d.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("dockerd in namespaces of its own: %w", err)
	}
	go func() {
		defer close(d.exited)
		_ = d.cmd.Wait() // the log says why
	}()
	if err := d.layCable(); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// signal reaches dockerd and nothing else in there.
func (d *daemon) signal(sig syscall.Signal) error {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", d.cmd.Process.Pid))
	if err != nil {
		return err
	}
	for child := range strings.FieldsSeq(string(children)) {
		name, err := os.ReadFile("/proc/" + child + "/comm")
		if err != nil || strings.TrimSpace(string(name)) != "dockerd" {
			continue // a shim whose dockerd is gone
		}
		pid, err := strconv.Atoi(child)
		if err != nil {
			return err
		}
		return syscall.Kill(pid, sig)
	}
	return errors.New("dockerd does not run")
}

// hold ends dockerd by sig, and it stays away until it is let go.
func (d *daemon) hold(sig syscall.Signal) error {
	if err := os.WriteFile(filepath.Join(d.dir, "hold"), nil, 0o644); err != nil {
		return err
	}
	if err := d.signal(sig); err != nil {
		return err
	}
	return d.wait(func() error {
		if _, err := os.Stat(filepath.Join(d.dir, "started")); err == nil {
			return errors.New("it still runs")
		}
		return nil
	})
}

func (d *daemon) letGo() error { return os.Remove(filepath.Join(d.dir, "hold")) }

// layCable connects the daemon's network with ours. It goes when the daemon's
// network does. The addresses are from the block that is set aside for
// tests between networks (RFC 2544), so they are nobody's.
func (d *daemon) layCable() error {
	pid := strconv.Itoa(d.cmd.Process.Pid)
	name := d.cable()
	net := fmt.Sprintf("198.%d.%d", 18+rand.IntN(2), rand.IntN(256))
	four := 4 * rand.IntN(64)
	ours := fmt.Sprintf("%s.%d", net, four+1)
	d.host = fmt.Sprintf("%s.%d", net, four+2)
	for _, line := range []string{
		"ip link add " + name + " type veth peer name cable netns " + pid,
		"ip addr add " + ours + "/30 dev " + name,
		"ip link set " + name + " up",
		"nsenter -n -t " + pid + " ip addr add " + d.host + "/30 dev cable",
		"nsenter -n -t " + pid + " ip link set cable up",
	} {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s%s", line, err, out, d.said())
		}
	}
	return nil
}

// cable is the name of our end.
func (d *daemon) cable() string { return "dt" + strconv.Itoa(d.cmd.Process.Pid) }

// wait asks until ready has no error.
func (d *daemon) wait(ready func() error) error {
	deadline := time.After(proctest.Patience)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-d.exited:
			return errors.New("dockerd has ended")
		case <-deadline:
			return fmt.Errorf("dockerd does not answer: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends dockerd in order, so that it takes down what it set up, or else by
// force, and removes what stays.
func (d *daemon) stop() error {
	// By itself it goes some time after its other end. It may be gone.
	_ = exec.Command("ip", "link", "del", d.cable()).Run()
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	var late error
	select {
	case <-d.exited:
	case <-time.After(proctest.Patience):
		late = errors.New("dockerd did not end on SIGTERM")
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
	return errors.Join(late, d.removeCgroups(), os.RemoveAll(d.dir))
}

// removeCgroups removes the groups that dockerd made and does not remove: one
// per hierarchy, in the first version of cgroups.
func (d *daemon) removeCgroups() error {
	tops, err := filepath.Glob("/sys/fs/cgroup/*/" + d.cgroup)
	tops = append(tops, filepath.Join("/sys/fs/cgroup", d.cgroup))
	for _, top := range tops {
		var groups []string
		_ = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for _, group := range slices.Backward(groups) {
			err = errors.Join(err, os.Remove(group))
		}
	}
	return err
}

func (d *daemon) said() string { return d.log.String() }

// A log keeps what dockerd says.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
