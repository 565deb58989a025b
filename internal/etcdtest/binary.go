package etcdtest

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"muster/internal/proctest"
)

const serverModule = "go.etcd.io/etcd/server/v3" // a tool in go.mod

// Binary returns the path of an etcd built from this module's go.mod, in
// .cache/bin of the repository. It builds at most once per machine and version:
// the packages' tests, which run at the same time, wait for each other.
func Binary(tb testing.TB) string {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatalf("etcdtest: %v", err)
	}
	return path
}

var build = sync.OnceValues(func() (string, error) {
	root, err := proctest.Root()
	if err != nil {
		return "", err
	}
	want, err := goTool(root, "list", "-m", "-f", "{{.Version}}", serverModule)
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".cache", "bin", "etcd")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if info, err := buildinfo.ReadFile(path); err == nil && info.Main.Version == want {
		return path, nil
	}
	// Build aside: a test that was killed leaves no half of a binary behind.
	fresh := path + ".new"
	if _, err := goTool(root, "build", "-o", fresh, serverModule); err != nil {
		return "", err
	}
	return path, os.Rename(fresh, path)
})

func goTool(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// lock holds the lock file at path until it is called back, or this process
// ends.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return func() { f.Close() }, nil
}
