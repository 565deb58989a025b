package sidekickcmd_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"muster/cmd/internal/cli"
	"muster/internal/etcdtest"
)

func TestServesItsStatus(t *testing.T) {
	etcd := etcdtest.Start(t)
	socket := filepath.Join(t.TempDir(), "status")
	// A socket that a killed process left is no obstacle.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()

	c := start(t, etcd, "-status", "unix:"+socket, "-health", "heartbeat:1h", "-interval", "20ms", "-drain", "1h")
	if body, code := get(t, socket, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: got %d %q: want ok, also while the app is down", code, body)
	}
	if body, code := get(t, socket, "/readyz"); code != http.StatusServiceUnavailable || body != "not announced: starting\n" {
		t.Errorf("/readyz: got %d %q: want 503, starting", code, body)
	}
	if _, code := ask(t, socket, http.MethodGet, "/beat"); code != http.StatusMethodNotAllowed {
		t.Errorf("GET /beat: got %d: want 405", code)
	}
	if n := len(keys(t, etcd)); n != 0 {
		t.Errorf("%d keys are announced without a beat", n)
	}
	if body, code := ask(t, socket, http.MethodPost, "/beat"); code != http.StatusNoContent {
		t.Errorf("POST /beat: got %d %q: want 204", code, body)
	}
	announced(t, etcd)
	r := reportAt(t, socket)
	for !r.Announced {
		r = reportAt(t, socket) // the answer of etcd is on its way
	}
	if r.Service != "web" || r.ID != "10.0.0.5:8080" || r.Addr != "10.0.0.5:8080" || r.State != "up" || r.Lease == "0" {
		t.Errorf("/status: got %+v", r)
	}
	if _, code := get(t, socket, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: got %d: want 200", code)
	}
	metrics(t, socket, map[string]float64{
		`muster_sidekick_announced`:                           1,
		`muster_sidekick_state{state="up"}`:                   1,
		`muster_sidekick_state{state="failing"}`:              0,
		`muster_sidekick_check_passing{check="heartbeat:1h"}`: 1,
		`muster_sidekick_transitions_total{to="up"}`:          1,
		`muster_sidekick_transitions_total{to="failing"}`:     0,
		`muster_sidekick_writes_total{result="done"}`:         1,
		`muster_sidekick_rise`:                                2,
		`muster_sidekick_beats_total`:                         1,
		`muster_sidekick_lease_ttl_seconds`:                   2,
		`muster_sidekick_conflicts_total`:                     0,
		`muster_sidekick_leases_lost_total`:                   0,
		`muster_sidekick_stuck`:                               0,
	})

	c.signal(syscall.SIGTERM)
	draining(t, etcd)
	if body, code := get(t, socket, "/readyz"); code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "not announced: draining") {
		t.Errorf("/readyz while it drains: got %d %q: want 503", code, body)
	}
	c.signal(syscall.SIGTERM)
	c.exit(128 + 15)
}

// metrics holds what Prometheus itself reads there against want.
func metrics(t *testing.T, socket string, want map[string]float64) {
	t.Helper()
	text, _ := get(t, socket, "/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("/metrics: %v\n%s", err, text)
	}
	got := make(map[string]float64)
	for name, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		for _, m := range f.Metric {
			key, at := name, ""
			for _, l := range m.Label {
				switch l.GetName() {
				case "service", "endpoint":
					at += l.GetValue() + " "
				default:
					key += `{` + l.GetName() + `="` + l.GetValue() + `"}`
				}
			}
			if at != "web 10.0.0.5:8080 " && at != "10.0.0.5:8080 web " {
				t.Errorf("%s: of %q: want service and endpoint", key, at)
			}
			got[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for key, value := range want {
		if v, ok := got[key]; !ok || v != value {
			t.Errorf("%s: got %v (there: %v): want %v", key, v, ok, value)
		}
	}
	if age, ok := got[`muster_sidekick_lease_age_seconds`]; !ok || age < 0 || age > 60 {
		t.Errorf("age of the lease: got %v (there: %v): want less than a minute", age, ok)
	}
	if took, ok := got[`muster_sidekick_check_seconds{check="heartbeat:1h"}`]; !ok || took < 0 || took > 60 {
		t.Errorf("time of the check: got %v (there: %v): want less than a minute", took, ok)
	}
	if n := got[`muster_sidekick_checks_total{result="pass"}`]; n < 2 {
		t.Errorf("checks that passed: got %v: want 2 or more", n)
	}
}

func TestAStatusThatIsTakenIsAnError(t *testing.T) {
	etcd := etcdtest.Start(t)
	socket := filepath.Join(t.TempDir(), "status")
	taken, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for where, want := range map[string]string{
		"unix:" + socket:         "another process listens there",
		port.Addr().String():     "address already in use",
		"unix:" + file:           "address already in use",
		"unix:/does/not/exist/s": "no such file",
	} {
		c := start(t, etcd, "-status", where)
		c.exit(cli.Failed)
		if !strings.Contains(c.log.String(), want) {
			t.Errorf("-status %s: got %s: want %q in it", where, &c.log, want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file: got %q, %v: want it untouched", text, err)
	}
}

// A status by TCP is the same; the socket is gone with the process.
func TestTheSocketGoesWithTheProcess(t *testing.T) {
	etcd := etcdtest.Start(t)
	socket := filepath.Join(t.TempDir(), "status")
	c := start(t, etcd, "-status", "unix:"+socket, "-drain", "0")
	announced(t, etcd)
	c.signal(syscall.SIGTERM)
	c.exit(cli.Done)
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket: got %v: want it gone", err)
	}
}
