// Package proctest runs our real binaries as child processes of a test: built
// once, killed with the test, their output kept and waited for line by line.
package proctest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/internal/freeport"
)

// Patience is how long a test waits for something that has to happen. It is
// long, because the machine may be slow; nobody asserts it.
const Patience = 90 * time.Second

// Build returns the path of a command of this module, such as
// "muster/cmd/muster", built once per test binary.
func Build(tb testing.TB, pkg string) string {
	tb.Helper()
	once, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) {
		// Not TempDir of a test: the binary serves all tests of the package.
		dir, err := os.MkdirTemp("", "proctest")
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, filepath.Base(pkg))
		out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		return path, nil
	}))
	path, err := once.(func() (string, error))()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

var builds sync.Map // package → func() (path, error)

// Clean removes what Build built; TestMain calls it at its end.
func Clean() {
	builds.Range(func(_, once any) bool {
		if path, err := once.(func() (string, error))(); err == nil {
			os.RemoveAll(filepath.Dir(path))
		}
		return true
	})
}

// FreeAddr returns a loopback address that nobody listens on and no other test
// gets; see [freeport.Addr].
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		tb.Fatal(err)
	}
	return addr
}

// A Proc is a running child.
type Proc struct {
	tb   testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and all its output is kept

	mu    sync.Mutex
	lines []string      // stdout and stderr, as they came
	more  chan struct{} // closed when lines grows
}

// Start runs path with args and env (NAME=VALUE, beside PATH and HOME=a new
// folder). It is killed when the test ends.
func Start(tb testing.TB, name string, env []string, path string, args ...string) *Proc {
	tb.Helper()
	p := &Proc{tb: tb, name: name, cmd: exec.Command(path, args...), done: make(chan struct{}), more: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + tb.TempDir()}, env...)
	p.cmd.SysProcAttr = dieWithParent()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	w.Close()
	go p.read(r)
	tb.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.done
		if tb.Failed() {
			tb.Logf("--- %s said\n%s", name, p.tail())
		}
	})
	return p
}

func (p *Proc) read(r io.ReadCloser) {
	defer close(p.done)
	defer r.Close()
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, sc.Text())
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
	_ = p.cmd.Wait()
}

// Output is everything it has said.
func (p *Proc) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// tail is the end of its output, and how much there was before.
func (p *Proc) tail() string {
	const most = 100
	lines := strings.Split(p.Output(), "\n")
	if n := len(lines) - most; n > 0 {
		return fmt.Sprintf("(%d lines)\n%s", n, strings.Join(lines[n:], "\n"))
	}
	return strings.Join(lines, "\n")
}

// WaitFor returns the first line that holds text, and fails the test if it
// never comes.
func (p *Proc) WaitFor(text string) string {
	p.tb.Helper()
	timeout := time.After(Patience)
	for {
		p.mu.Lock()
		lines, more := p.lines, p.more
		p.mu.Unlock()
		for _, line := range lines {
			if strings.Contains(line, text) {
				return line
			}
		}
		select {
		case <-more:
		case <-p.done:
			p.mu.Lock()
			grown := len(p.lines) > len(lines)
			p.mu.Unlock()
			if !grown {
				p.tb.Fatalf("%s ended and never said %q; it said\n%s", p.name, text, p.tail())
			}
		case <-timeout:
			p.tb.Fatalf("%s did not say %q; it said\n%s", p.name, text, p.tail())
		}
	}
}

// Value waits for the log line that holds text and returns its attribute.
func (p *Proc) Value(text, attribute string) string {
	p.tb.Helper()
	line := p.WaitFor(text)
	for word := range strings.FieldsSeq(line) {
		if value, ok := strings.CutPrefix(word, attribute+"="); ok {
			return value
		}
	}
	p.tb.Fatalf("%s said %q, want %s=… in it", p.name, line, attribute)
	return ""
}

// Signal sends a signal; to one that has ended it does nothing.
func (p *Proc) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Pid is the child's process.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Wait returns the exit code, 128 + n for signal n, and fails the test if it
// does not end.
func (p *Proc) Wait() int {
	p.tb.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.tb.Fatalf("%s did not end; it said\n%s", p.name, p.tail())
	}
	state := p.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

// Eventually waits until ok says true, and fails the test with what if it never
// does.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(Patience)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("never came: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Root is the folder of go.mod, from where tests run upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no go.mod in %s or above", dir)
		}
	}
}

// Need fails the test where a program is missing and all tests are asked for
// (MUSTER_TEST_ALL, as make test sets it); elsewhere it skips it.
func Need(tb testing.TB, program string) string {
	tb.Helper()
	path, err := exec.LookPath(program)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err != nil {
			path, err = exec.LookPath(dir + program)
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, exec.ErrNotFound):
		Missing(tb, program)
	default:
		tb.Fatal(err)
	}
	return path
}

// Missing is what [Need] does about a part that is not a program on the PATH.
func Missing(tb testing.TB, part string) {
	tb.Helper()
	if os.Getenv("MUSTER_TEST_ALL") != "" || os.Getenv("CI") != "" {
		tb.Fatalf("needs %s (scripts/packages or scripts/servers brings it)", part)
	}
	tb.Skipf("needs %s", part)
}
