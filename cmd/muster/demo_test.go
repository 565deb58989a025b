package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"muster/internal/proctest"
)

// TestDemo is what a newcomer does: start it where the usual ports are taken,
// look, curl, break a backend, Ctrl-C.
func TestDemo(t *testing.T) {
	for _, usual := range []string{"127.0.0.1:2379", "127.0.0.1:8080", "127.0.0.1:9900"} {
		if l, err := net.Listen("tcp", usual); err == nil { // else somebody else has it
			defer l.Close()
		}
	}
	muster := proctest.Build(t, "muster/cmd/muster")
	temp := t.TempDir()
	demo := proctest.Start(t, "demo", []string{"TMPDIR=" + temp}, muster, "demo")
	demo.WaitFor("web/1 up   web/2 up   web/3 up")

	addrs := make(map[string]string)
	for _, what := range []string{"store", "balancer", "dashboard"} {
		addrs[what] = loopback.FindString(demo.WaitFor("  " + what + " "))
	}
	if line := demo.WaitFor("  taken "); !strings.Contains(line, "2379, 8080, 9900 ") {
		t.Errorf("the screen says %q, want the three usual ports", line)
	}
	if entries, err := os.ReadDir(temp); err != nil || len(entries) != 1 {
		t.Errorf("temporary folder: %v, %v; want one entry", entries, err)
	}

	// The balancer is where the screen says, and each answer names its endpoint.
	names := make(map[string]string)
	proctest.Eventually(t, "an answer of each backend", func() bool {
		_, body := request(t, "GET", "http://"+addrs["balancer"]+"/", "")
		name, rest, _ := strings.Cut(body, " at ")
		names[name], _, _ = strings.Cut(rest, "\n")
		return len(names) == 3
	})
	page := "http://" + addrs["dashboard"]
	if code, body := request(t, "GET", page+"/readyz", ""); code != 200 || body != "ready\n" {
		t.Errorf("/readyz: got %d %q, want 200 and ready", code, body)
	}
	if code, body := request(t, "GET", page+"/metrics", ""); code != 200 || !strings.Contains(body, "\nmuster_") {
		t.Errorf("/metrics: got %d and %d bytes, want 200 with muster_…", code, len(body))
	}
	states(t, page, "1 up", "2 up", "3 up")
	_, html := request(t, "GET", page+"/", "")
	for name, addr := range names {
		if !strings.Contains(html, addr) {
			t.Errorf("the page does not show %s at %s", name, addr)
		}
	}
	demo.WaitFor("errors 0   share ")

	// A check that fails takes its endpoint out, and one that passes brings it back.
	request(t, "POST", "http://"+names["web/1"]+"/healthz?status=503", "")
	states(t, page, "2 up", "3 up")
	request(t, "POST", "http://"+names["web/1"]+"/healthz?status=200", "")
	states(t, page, "1 up", "2 up", "3 up")

	// It is one process: there is no other that could stay.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", demo.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if children, err := os.ReadFile(task); err == nil && len(children) > 0 {
			t.Errorf("%s: %s, want none", task, children)
		}
	}

	demo.Signal(syscall.SIGINT)
	if code := demo.Wait(); code != 0 {
		t.Errorf("after Ctrl-C it ended with %d, want 0", code)
	}
	for what, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("the port of the %s is still taken: %v", what, err)
			continue
		}
		l.Close()
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if out := demo.Output(); strings.Contains(out, "level=") || strings.Count(out, "errors 0 ") != strings.Count(out, "errors ") {
		t.Errorf("requests of the load failed, or the log came through:\n%s", out)
	}
}

// Two signals at once, as timeout(1) sends them, leave no folder either.
func TestDemoInAHurry(t *testing.T) {
	temp := t.TempDir()
	demo := proctest.Start(t, "demo", []string{"TMPDIR=" + temp}, proctest.Build(t, "muster/cmd/muster"), "demo", "-rate", "0")
	demo.WaitFor("web/1 up   web/2 up   web/3 up")
	demo.Signal(syscall.SIGINT)
	demo.Signal(syscall.SIGINT)
	if code := demo.Wait(); code != 0 && code != 130 {
		t.Errorf("ended with %d, want 0, or 130 if the second came in time", code)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// states waits until the page's endpoints of web are want.
func states(t *testing.T, page string, want ...string) {
	t.Helper()
	proctest.Eventually(t, fmt.Sprint(want), func() bool {
		_, body := request(t, "GET", page+"/api/v1/status", "")
		var status struct {
			Services []struct{ Endpoints []struct{ ID, State string } }
		}
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range status.Services {
			for _, e := range s.Endpoints {
				got = append(got, e.ID+" "+e.State)
			}
		}
		return slices.Equal(got, want)
	})
}

func TestDemoUsage(t *testing.T) {
	muster := proctest.Build(t, "muster/cmd/muster")
	for args, want := range map[string]string{
		"-rate many": `invalid value "many" for flag -rate`,
		"-rate -1":   "-rate -1: want 0 to 1000",
		"-rat 5":     "unknown flag -rat (did you mean -rate?)",
		"web":        `unexpected "web"`,
	} {
		demo := proctest.Start(t, "demo "+args, nil, muster, append([]string{"demo"}, strings.Fields(args)...)...)
		if code := demo.Wait(); code != 2 || !strings.Contains(demo.Output(), want) {
			t.Errorf("muster demo %s: got %d %q, want 2 with %q", args, code, demo.Output(), want)
		}
	}
}

// A binary without the embedded etcd says what to do instead.
func TestDemoWithoutEtcd(t *testing.T) {
	muster := filepath.Join(t.TempDir(), "muster")
	if out, err := exec.Command("go", "build", "-tags", "noembed", "-o", muster, "muster/cmd/muster").CombinedOutput(); err != nil {
		t.Fatalf("go build -tags noembed: %v\n%s", err, out)
	}
	demo := proctest.Start(t, "demo", nil, muster, "demo")
	if code := demo.Wait(); code != 1 || !strings.Contains(demo.Output(), "built without the embedded etcd (build tag noembed)") {
		t.Errorf("got %d %q, want 1 and why", code, demo.Output())
	}
}
