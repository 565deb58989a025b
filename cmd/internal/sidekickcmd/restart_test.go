package sidekickcmd_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/cmd/internal/cli"
	"muster/internal/etcdtest"
)

// ready waits until the sidekick behind socket is announced.
func ready(t *testing.T, socket string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, code := get(t, socket, "/readyz"); code == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not announced in %v", patience)
		}
	}
}

// A restart with -on-exit keep and a crash are seen by nobody, as the lease is
// remembered; the next one withdraws what it took up.
func TestARestartIsNotSeen(t *testing.T) {
	etcd := etcdtest.Start(t)
	dir := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", dir+":/another")
	socket := filepath.Join(dir, "status")
	events := etcd.Client().Watch(t.Context(), "/services", clientv3.WithPrefix())
	first := start(t, etcd, "-ttl", "30s", "-status", "unix:"+socket, "-on-exit", "keep")
	ready(t, socket)
	if r := <-events; len(r.Events) != 2 {
		t.Fatalf("got %v: want both keys put", r.Events)
	}
	first.signal(syscall.SIGTERM)
	first.exit(cli.Done)
	if n := len(keys(t, etcd)); n != 2 {
		t.Fatalf("%d keys are left: want both kept", n)
	}

	second := start(t, etcd, "-ttl", "30s", "-status", "unix:"+socket)
	ready(t, socket)
	second.signal(syscall.SIGKILL)
	second.exit(-1)

	third := start(t, etcd, "-ttl", "30s", "-status", "unix:"+socket, "-drain", "0")
	ready(t, socket)
	third.signal(syscall.SIGTERM)
	third.exit(cli.Done)
	select {
	case r := <-events: // the first event since the two puts
		if len(r.Events) != 2 || r.Events[0].Type == r.Events[1].Type {
			t.Errorf("got %v: want nothing before the end: one key deleted, the other draining", r.Events)
		}
	case <-time.After(patience):
		t.Fatal("it was not withdrawn")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.lease"))
	if err != nil || len(files) != 0 {
		t.Errorf("lease files: got %q, %v: want none after it has left", files, err)
	}
}

// What was taken up is not kept for an app that does not answer: it was up, so
// there is no start period.
func TestWhatWasKeptIsWithdrawnIfTheAppIsGone(t *testing.T) {
	etcd := etcdtest.Start(t)
	dir := t.TempDir()
	socket := filepath.Join(dir, "status")
	first := start(t, etcd, "-ttl", "10m", "-status", "unix:"+socket, "-state", dir, "-on-exit", "keep")
	ready(t, socket)
	first.signal(syscall.SIGTERM)
	first.exit(cli.Done)
	start(t, etcd, "-ttl", "10m", "-status", "unix:"+socket, "-state", dir, "-health", "exec:false", "-start-period", "1h")
	deadline := time.Now().Add(patience)
	for len(keys(t, etcd)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%q are announced, and the app is gone", keys(t, etcd))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if r := reportAt(t, socket); r.State != "failing" {
		t.Errorf("got %+v: want failing", r)
	}
}

func TestTakeover(t *testing.T) {
	etcd := etcdtest.Start(t)
	const key = "/services/web/10.0.0.5:8080"
	if _, err := etcd.Client().Put(t.Context(), key, "10.0.0.9:1"); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "status")
	start(t, etcd, "-status", "unix:"+socket, "-takeover")
	ready(t, socket)
	resp, err := etcd.Client().Get(t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "10.0.0.5:8080" || resp.Kvs[0].Lease == 0 {
		t.Errorf("got %v, %v: want the key taken", resp, err)
	}
}

func TestWithAnAppNothingIsKept(t *testing.T) {
	etcd := etcdtest.Start(t)
	dir := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", dir)
	c := start(t, etcd, "--", "sh", "-c", "echo ready; while :; do sleep 0.01; done")
	c.line("ready")
	announced(t, etcd)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 0 {
		t.Errorf("got %q, %v: want no lease file, as the app does not outlive the sidekick", files, err)
	}
	c.signal(syscall.SIGKILL)
	c = start(t, etcd, "-on-exit", "keep", "--", "true")
	c.exit(cli.Usage)
	if !strings.Contains(c.log.String(), "-on-exit keep: want no command") {
		t.Errorf("got %s", &c.log)
	}
}
