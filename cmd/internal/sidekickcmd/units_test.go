package sidekickcmd_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/sidekickcmd"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

const examples = "../../../examples/systemd"

var execStart = regexp.MustCompile(`(?m)^ExecStart=(.*)$`)

// The command line of the unit announces an app that answers at the instance's
// port of this host.
func TestTheExampleUnitAnnounces(t *testing.T) {
	etcd := etcdtest.Start(t)
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	host, port, _ := net.SplitHostPort(app.Listener.Addr().String())

	text, err := os.ReadFile(filepath.Join(examples, "web-sidekick@.service"))
	if err != nil {
		t.Fatal(err)
	}
	line := execStart.FindSubmatch(text)
	if line == nil {
		t.Fatal("no ExecStart in the unit")
	}
	args := strings.Fields(strings.ReplaceAll(string(line[1]), "%i", port))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Env = append(os.Environ(), "HOST_IP="+host, "MUSTER_STORE=etcd://"+etcd.Addr(), "MUSTER_DRAIN=1h") // -drain wins
	cmd.Stderr = t.Output()
	key := "/services/web/" + net.JoinHostPort(host, port)
	events := etcd.Client().Watch(t.Context(), key)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // asked for below, or killed
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	for _, want := range []string{"PUT", "DELETE"} {
		select {
		case r := <-events:
			if len(r.Events) != 1 || r.Events[0].Type.String() != want {
				t.Fatalf("%s: got %v: want one %s", key, r.Events, want)
			}
		case <-time.After(patience):
			t.Fatalf("%s: no %s in %v", key, want, patience)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // the second time it is not to wait for the drain
			t.Error(err)
		}
	}
}

// What is behind the comment of an example is what the command in its last line
// prints.
func TestTheExampleUnitsArePrinted(t *testing.T) {
	for _, name := range []string{"web-sidekick@.service", "fleet/web-sidekick@.service", "announce.service"} {
		text, err := os.ReadFile(filepath.Join(examples, name))
		if err != nil {
			t.Fatal(err)
		}
		head, unit, ok := strings.Cut(string(text), "\n[Unit]")
		_, command, is := strings.Cut(head, "\n# muster unit ")
		if !ok || !is {
			t.Fatalf("%s: want a comment that ends with the command, and [Unit]", name)
		}
		if got, want := "[Unit]"+unit, printed(t, strings.Fields(command)...); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// The fleet form is bound as in the demo: to the app's unit, on its machine.
func TestTheFleetForm(t *testing.T) {
	text := printed(t, "web", "-fleet", "-health", "http:/")
	for _, want := range []string{
		"\nBindsTo=web@%i.service\nAfter=web@%i.service\n", "\n[X-Fleet]\nMachineOf=web@%i.service\n",
		"\nEnvironmentFile=/etc/environment\n", "\nExecStart=/usr/local/bin/muster sidekick web -addr ${COREOS_PRIVATE_IPV4}:%i -health http:/\n",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("got\n%s\nwant %q in it", text, want)
		}
	}
	if strings.Contains(text, "[Install]") {
		t.Error("fleet knows no [Install]")
	}
}

func TestUnitUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no name":           {nil, "want the NAME of the service"},
		"a wrong check":     {[]string{"web", "-health", "ping:"}, `check "ping:": want tcp:`},
		"a wrong flag":      {[]string{"web", "-flet"}, "did you mean -fleet?"},
		"fleet and an app":  {[]string{"web", "-fleet", "-addr", ":80", "--", "app"}, "-fleet: want no command"},
		"an app without it": {[]string{"web", "--", "app"}, "-addr: want HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs strings.Builder
			std := cli.Std{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
			if code := sidekickcmd.Unit(t.Context(), std, tt.args); code != cli.Usage || !strings.Contains(errs.String(), tt.want) || !strings.Contains(errs.String(), "muster unit -h") || out.Len() > 0 {
				t.Errorf("muster unit %q: got code %d, %q and %q: want 2 and %q", tt.args, code, out.String(), errs.String(), tt.want)
			}
		})
	}
}

func TestUnitsAreClean(t *testing.T) {
	analyze := proctest.Need(t, "systemd-analyze")
	app, err := os.ReadFile(filepath.Join(examples, "web@.service"))
	if err != nil {
		t.Fatal(err)
	}
	for name, unit := range map[string]string{
		"bound":   printed(t, "web", "-health", `http:/ body="all is well"`),
		"kept":    printed(t, "web", "-on-exit", "keep", "-takeover"),
		"for one": printed(t, "web", "-for", "web@8080.service", "-addr", "10.0.0.5:8080"),
		"fleet":   printed(t, "web", "-fleet"),
		"folder":  printed(t, "-config", "/etc/muster/announce.d", "-zone", "a b"),
		"an app":  printed(t, "web", "-addr", ":8080", "--", "/bin/app", "a b", `c"d`, "it's;"),
	} {
		dir := t.TempDir()
		args := []string{"verify"}
		for file, text := range map[string]string{"web@8080.service": string(app), "web-sidekick@8080.service": unit} {
			// The programs need not be on this machine.
			text = regexp.MustCompile(`(?m)^(Exec\w+=-?)/\S+`).ReplaceAllString(text, "${1}/bin/sh")
			to := filepath.Join(dir, file)
			if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			args = append(args, to)
		}
		out, err := exec.Command(analyze, args...).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: systemd-analyze verify: %v\n%s\n%s", name, err, out, unit)
		}
	}
}
