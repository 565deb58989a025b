package confd

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"muster/cmd/internal/cli"
	"muster/internal/proctest"
	"muster/template"
)

// running is a confd in this process that follows a file.
type running struct {
	dir, dest string
	log       syncBuffer
	addr      string // of -metrics-addr
}

func start(t *testing.T, metricsAddr string) *running {
	r := &running{}
	r.dir, r.dest = confdir(t)
	r.write(t, "data.yaml", "x: s3cret")
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int)
	go func() {
		code <- newProgram(nil, &r.log).main(ctx, "confd", []string{
			"-watch", "-backend", "file", "-file", r.dir + "/data.yaml", "-confdir", r.dir, "-config-file", r.dir + "/none",
			"-metrics-addr", metricsAddr, "-log-level", "debug",
		})
	}()
	t.Cleanup(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if got := <-code; got != cli.Done {
			t.Errorf("exit %d, want 0\n%s", got, r.log.String())
		}
	})
	serving := regexp.MustCompile(`INFO Serving metrics at (\S+)`)
	proctest.Eventually(t, "the address of the metrics", func() bool {
		m := serving.FindStringSubmatch(r.log.String())
		if m != nil {
			r.addr = m[1]
		}
		return m != nil
	})
	return r
}

func (r *running) write(t *testing.T, name, text string) {
	t.Helper()
	path := r.dir + "/" + name
	err := os.WriteFile(path+".new", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *running) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + r.addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// A resource that fails is visible in the metrics, the status and the check, and
// so is that it is well again.
func TestFailingResourceIsVisible(t *testing.T) {
	r := start(t, "127.0.0.1:0")
	metric := func(name string) string {
		_, text := r.get(t, "/metrics")
		m := regexp.MustCompile(`(?m)^muster_template_` + name + `\{dest="` + r.dest + `",resource="` + r.dir + `/conf.d/r.toml"\} (\S+)$`).FindStringSubmatch(text)
		if m == nil {
			return "" // it has not begun yet
		}
		return m[1]
	}
	proctest.Eventually(t, "the first update", func() bool { return metric("updates_total") == "1" })
	if code, text := r.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d %s, want 200", code, text)
	}
	if metric("failing") != "0" || metric("store_up") != "1" || metric("failures_total") != "0" || metric("updated_timestamp_seconds") == "0" {
		t.Error("it fails, before anything failed")
	}

	r.write(t, "templates/t", `{{getv "/none"}}`)
	r.write(t, "data.yaml", "x: s3cret2")
	proctest.Eventually(t, "the failure", func() bool { return metric("failing") == "1" })
	if code, _ := r.get(t, "/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("healthz: %d, want 503", code)
	}
	var status struct{ Resources []template.Status }
	_, text := r.get(t, "/status")
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Resources) != 1 {
		t.Fatalf("status: %v of %s", err, text)
	}
	if s := status.Resources[0]; !strings.Contains(s.Err, "key does not exist: /none") || s.Failing.IsZero() || s.Dest != r.dest {
		t.Errorf("status: %+v, want the missing key", s)
	}

	r.write(t, "templates/t", `well {{atoi (getv "/x") | printf "%d"}}`) // not yet: the value is no number
	proctest.Eventually(t, "the other failure", func() bool { return strings.Contains(r.log.String(), "calling atoi") })
	r.write(t, "templates/t", `well`)
	proctest.Eventually(t, "it is well", func() bool { return metric("failing") == "0" && metric("updates_total") == "2" })
	if code, _ := r.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d, want 200", code)
	}
	// At no level the log has a value.
	if strings.Contains(r.log.String(), "s3cret") {
		t.Errorf("a value is in the log:\n%s", r.log.String())
	}

	// A store that is away is visible too, while the file stays.
	r.write(t, "data.yaml", "x: [s3cret")
	proctest.Eventually(t, "the store is away", func() bool { return metric("store_up") == "0" })
	r.write(t, "data.yaml", "x: 3")
	proctest.Eventually(t, "the store is back", func() bool { return metric("store_up") == "1" })
	if strings.Contains(r.log.String(), "s3cret") {
		t.Errorf("a value is in the log:\n%s", r.log.String())
	}
}

// The status has the output of commands in it: not for everybody.
func TestStatusIsForThisHostOnly(t *testing.T) {
	r := start(t, "0.0.0.0:0")
	_, port, _ := strings.Cut(r.addr, "]:")
	r.addr = "127.0.0.1:" + port
	for path, want := range map[string]int{"/metrics": 200, "/healthz": 200, "/status": 404} {
		proctest.Eventually(t, path, func() bool { code, _ := r.get(t, path); return code == want })
	}
}
