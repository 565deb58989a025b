package template

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExpand(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"nginx -t -c {{.src}}", "nginx -t -c /s"},
		{"cp {{ .src }} {{  .dest}} {{.src }}", "cp /s /d /s"},
		{"{{- .src -}}x", "/sx"},
		{"docker ps --format '{{.Names}} {{.srcs}} {{src}} {{if .src}}'", "docker ps --format '{{.Names}} {{.srcs}} {{src}} {{if .src}}'"},
		{"a {{.src", "a {{.src"},
	} {
		if got := expand(c.line, "/s", "/d"); got != c.want {
			t.Errorf("expand(%q) = %q, want %q", c.line, got, c.want)
		}
	}
}

func TestRunTellsOutputAndExit(t *testing.T) {
	output, err := run(t.Context(), "echo out; echo err >&2; exit 7", time.Minute)
	if output != "out\nerr\n" || err == nil || err.Error() != "exit status 7" {
		t.Errorf("got %q, %v, want both streams and exit status 7", output, err)
	}
	output, err = run(t.Context(), "yes 0123456 | head -c 1000000; echo end", time.Minute)
	if err != nil || len(output) != maxOutput || !strings.HasSuffix(output, "\nend\n") {
		t.Errorf("got %d bytes, %v, want the last %d", len(output), err, maxOutput)
	}
}

// pidIn returns the pid that a command wrote to path.
func pidIn(t *testing.T, path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone waits until the process has ended, or waits only to be buried.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if syscall.Kill(pid, 0) != nil {
			return
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d still runs", pid)
}

func TestRunEndsTheWholeGroupInTime(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	_, err := run(t.Context(), "sleep 300 & echo $! > "+child+"; wait", 300*time.Millisecond)
	if err == nil || !strings.HasPrefix(err.Error(), "ended after 300ms") {
		t.Errorf("got %v, want that it was ended after 300ms", err)
	}
	gone(t, pidIn(t, child))
}

func TestRunKillsWhatIgnoresTERM(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	_, err := run(t.Context(), "trap '' TERM; echo $$ > "+child+"; while :; do sleep 0.1; done", 300*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("got %v, want that it was killed", err)
	}
	gone(t, pidIn(t, child))
}

func TestRunDoesNotWaitForDaemons(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	daemon := "(while [ ! -e " + dir + "/stop ]; do echo still here; sleep 0.05; done; echo well > " + dir + "/end) & echo $! > " + dir + "/pid"
	output, err := run(t.Context(), daemon+"; echo started", time.Minute)
	if err != nil || !strings.Contains(output, "started\n") {
		t.Fatalf("got %q, %v, want started", output, err)
	}
	pid := pidIn(t, dir+"/pid")
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the daemon is gone: %v", err)
	}
	if err := os.WriteFile(dir+"/stop", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if _, err := os.Stat(dir + "/end"); err != nil {
		t.Errorf("the daemon did not end well, though it could still write: %v", err)
	}
}

func TestRunLetsAShortCommandEndWhenStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if output, err := run(ctx, "sleep 0.2; echo done", time.Minute); err != nil || output != "done\n" {
		t.Errorf("got %q, %v, want done: a reload is not cut off", output, err)
	}
}
