package sidekickcmd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/sidekickcmd"
	"muster/internal/etcdtest"
)

// patience is how long a test waits for what has to come.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if dir := buildDir; dir != "" {
		os.RemoveAll(dir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goleak:", err)
			code = 1
		}
	}
	os.Exit(code)
}

var buildDir string

// binary is cmd/sidekick as it is shipped.
var binary = sync.OnceValues(func() (string, error) {
	var err error
	if buildDir, err = os.MkdirTemp("", "sidekick"); err != nil {
		return "", err
	}
	path := filepath.Join(buildDir, "sidekick")
	out, err := exec.Command("go", "build", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", path, "muster/cmd/sidekick").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// A child is the binary that runs.
type child struct {
	*testing.T
	cmd *exec.Cmd
	out *bufio.Scanner // the app's output, which is the child's
	log bytes.Buffer
}

// start runs the binary with a service web at an address that needs no check.
func start(t *testing.T, etcd *etcdtest.Server, args ...string) *child {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{T: t}
	if !slices.Contains(args, "-health") {
		args = append([]string{"-health", "none"}, args...)
	}
	args = append([]string{"web", "-addr", "10.0.0.5:8080", "-ttl", "2s", "-store", "etcd://" + etcd.Addr()}, args...)
	c.cmd = exec.Command(path, args...)
	c.cmd.Stderr = &c.log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	t.Cleanup(func() {
		late.Stop()
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		if t.Failed() {
			t.Logf("stderr:\n%s", &c.log)
		}
	})
	return c
}

// line holds the next line of the app's output against want.
func (c *child) line(want string) {
	c.Helper()
	if !c.out.Scan() || c.out.Text() != want {
		c.Fatalf("the app said %q, %v: want %q", c.out.Text(), c.out.Err(), want)
	}
}

func (c *child) signal(sig os.Signal) {
	c.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.Fatal(err)
	}
}

// exit holds the exit code against want.
func (c *child) exit(want int) {
	c.Helper()
	for c.out.Scan() { // to the end: then Wait may close the pipe
	}
	_ = c.cmd.Wait()
	if got := c.cmd.ProcessState.ExitCode(); got != want {
		c.Errorf("exit code: got %d (%v): want %d", got, c.cmd.ProcessState, want)
	}
}

// announced waits until the keys are there.
func announced(t *testing.T, etcd *etcdtest.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const key = "/services/web/10.0.0.5:8080"
	events := etcd.Client().Watch(ctx, key) // before the read
	resp, err := etcd.Client().Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		if _, ok := <-events; !ok {
			t.Fatalf("%s was not announced in %v", key, patience)
		}
	}
}

func keys(t *testing.T, etcd *etcdtest.Server) (keys []string) {
	t.Helper()
	for _, key := range []string{"/services/web/10.0.0.5:8080", "/services.meta/web/10.0.0.5:8080"} {
		resp, err := etcd.Client().Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) > 0 {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestExitCodeIsTheApps(t *testing.T) {
	etcd := etcdtest.Start(t)
	for name, tt := range map[string]struct {
		script string
		want   int
	}{
		"done":    {"exit 0", 0},
		"3":       {"exit 3", 3},
		"SIGKILL": {"kill -KILL $$", 128 + 9},
		"SIGABRT": {"kill -ABRT $$", 128 + 6},
		"stdin":   {"read line; exit 4", 4}, // standard input is at its end
	} {
		t.Run(name, func(t *testing.T) {
			start(t, etcd, "--", "sh", "-c", tt.script).exit(tt.want)
			if left := keys(t, etcd); len(left) > 0 {
				t.Errorf("the app has ended, and %q are still announced", left)
			}
		})
	}
	t.Run("not found", func(t *testing.T) {
		c := start(t, etcd, "--", "/does/not/exist")
		c.exit(cli.Failed)
		if !strings.Contains(c.log.String(), "/does/not/exist") {
			t.Errorf("got %q: want the command in it", c.log.String())
		}
	})
}

func TestTermWithdrawsThenStopsTheApp(t *testing.T) {
	etcd := etcdtest.Start(t)
	c := start(t, etcd, "-drain", "100ms", "--", "sh", "-c", `trap "echo stopping; exit 6" TERM; echo ready; while :; do sleep 0.01; done`)
	c.line("ready")
	announced(t, etcd)
	c.signal(syscall.SIGTERM)
	c.line("stopping")
	c.exit(6)
	if left := keys(t, etcd); len(left) > 0 {
		t.Errorf("%q are still announced", left)
	}
}

func TestTermWithoutAnAppIsDone(t *testing.T) {
	etcd := etcdtest.Start(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		c := start(t, etcd, "-drain", "0")
		announced(t, etcd)
		c.signal(syscall.SIGHUP) // there is nothing to read again
		c.signal(sig)
		c.exit(cli.Done)
		if left := keys(t, etcd); len(left) > 0 {
			t.Errorf("after %v: %q are still announced", sig, left)
		}
	}
}

func TestSecondTermEndsItAllAtOnce(t *testing.T) {
	etcd := etcdtest.Start(t)
	c := start(t, etcd, "-drain", "1h", "-stop-timeout", "1h", "--", "sh", "-c", `trap "" TERM INT; echo ready; while :; do sleep 0.01; done`)
	c.line("ready")
	announced(t, etcd)
	c.signal(syscall.SIGTERM)
	draining(t, etcd)
	c.signal(syscall.SIGINT)
	c.exit(128 + 2) // which also waits for the end of the app's output, so for its end
}

// draining waits until the plain key is gone.
func draining(t *testing.T, etcd *etcdtest.Server) {
	t.Helper()
	for deadline := time.Now().Add(patience); slices.Contains(keys(t, etcd), "/services/web/10.0.0.5:8080"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not draining in %v", patience)
		}
	}
}

func TestTheAppDiesWithAKilledSidekick(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties a process to its parent")
	}
	etcd := etcdtest.Start(t)
	c := start(t, etcd, "--", "sh", "-c", `echo ready; while read -r line </dev/zero; do :; done`)
	c.line("ready")
	c.signal(syscall.SIGKILL)
	c.exit(-1) // and the app's output is at its end
}

func TestSignalsForTheApp(t *testing.T) {
	etcd := etcdtest.Start(t)
	c := start(t, etcd, "--", "sh", "-c", `trap "echo HUP" HUP; trap "echo USR1" USR1; trap "echo USR2; exit 0" USR2; echo ready; while :; do sleep 0.01; done`)
	c.line("ready")
	c.signal(syscall.SIGHUP)
	c.line("HUP")
	c.signal(syscall.SIGUSR1)
	c.line("USR1")
	c.signal(syscall.SIGUSR2)
	c.line("USR2")
	c.exit(0)
}

func TestPortEnvTakesAFreePort(t *testing.T) {
	etcd := etcdtest.Start(t)
	c := start(t, etcd, "-addr", "127.0.0.1:0", "-port-env", "PORT", "-id", "10.0.0.5:8080", "--", "sh", "-c", `echo "$PORT"; read line </dev/tty; while :; do sleep 0.01; done`)
	if !c.out.Scan() {
		t.Fatal("the app said nothing")
	}
	want := "127.0.0.1:" + c.out.Text()
	announced(t, etcd)
	resp, err := etcd.Client().Get(t.Context(), "/services/web/10.0.0.5:8080")
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != want || want == "127.0.0.1:0" {
		t.Errorf("announced %v, %v: want %s, as the app was told", resp, err, want)
	}
}

func TestTellsSystemd(t *testing.T) {
	etcd := etcdtest.Start(t)
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "100000")
	c := start(t, etcd, "-drain", "1500ms", "-stop-timeout", "4s", "--", "sh", "-c", `trap "exit 0" TERM; echo "$NOTIFY_SOCKET$WATCHDOG_USEC"; while :; do sleep 0.01; done`)
	c.line("") // what systemd said was for the sidekick alone
	pings := 0
	var got []string
	for buf := make([]byte, 1000); !slices.Contains(got, "STATUS=left"); {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		lines := strings.Split(string(buf[:n]), "\n")
		if slices.Contains(lines, "WATCHDOG=1") {
			if pings++; pings == 5 && slices.Contains(got, "READY=1") {
				c.signal(syscall.SIGTERM)
			}
			continue
		}
		got = append(got, lines...)
		if slices.Contains(lines, "READY=1") {
			pings = 0
			if len(keys(t, etcd)) != 2 {
				t.Error("ready before it is announced")
			}
		}
		// 3s, 2s and 2s for etcd, the drain, the app's end and 1s, and 2s more.
		if slices.Contains(lines, "STOPPING=1") && !slices.Contains(lines, "EXTEND_TIMEOUT_USEC=15500000") {
			t.Errorf("got %q: want the time that leaving may take, 15.5s", lines)
		}
	}
	for _, want := range []string{"STATUS=up", "STATUS=draining"} {
		if !slices.Contains(got, want) {
			t.Errorf("got %q: want %s in it", got, want)
		}
	}
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		if n := count(got, want); n != 1 {
			t.Errorf("got %d of %s in %q: want 1", n, want, got)
		}
	}
	if slices.Index(got, "READY=1") > slices.Index(got, "STOPPING=1") {
		t.Errorf("order: got %q", got)
	}
	if pings < 5 {
		t.Errorf("got %d pings for the watchdog: want 5 before it was stopped", pings)
	}
	c.exit(cli.Done)
}

func count(all []string, text string) (n int) {
	for _, s := range all {
		if s == text {
			n++
		}
	}
	return n
}

func TestUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no name":             {[]string{"-addr", "10.0.0.5:80"}, "want the NAME of the service"},
		"two names":           {[]string{"web", "api", "-addr", "10.0.0.5:80"}, `"api": want one NAME, and a command behind --`},
		"a name that is two":  {[]string{"a/b", "-addr", "10.0.0.5:80"}, `service "a/b": want`},
		"an ID that is two":   {[]string{"web", "-id", "a/b", "-addr", "10.0.0.5:80"}, `id "a/b": want`},
		"no address":          {[]string{"web"}, "-addr: want HOST:PORT"},
		"two ways to a host":  {[]string{"web", "-addr", "10.0.0.5:80", "-cidr", "10.0.0.0/8"}, "choose the host of -addr :PORT: \"10.0.0.5:80\" has one"},
		"no network":          {[]string{"web", "-addr", ":80", "-cidr", "10.0.0.0"}, "-cidr \"10.0.0.0\": want ADDRESS/BITS such as 10.0.0.0/8"},
		"nowhere to beat":     {[]string{"web", "-addr", "10.0.0.5:80", "-health", "heartbeat:10s"}, "-health heartbeat: wants -status too"},
		"no port":             {[]string{"web", "-addr", "10.0.0.5"}, `addr "10.0.0.5": want HOST:PORT`},
		"any host":            {[]string{"web", "-addr", "0.0.0.0:8080"}, `addr "0.0.0.0:8080": want a host too: the address or name of this machine`},
		"port 0":              {[]string{"web", "-addr", "10.0.0.5:0"}, "want a port, or -port-env"},
		"port-env alone":      {[]string{"web", "-addr", "10.0.0.5:0", "-port-env", "PORT"}, "-port-env PORT: want a command behind --"},
		"no command":          {[]string{"web", "-addr", "10.0.0.5:80", "--"}, "want a command behind --"},
		"near miss":           {[]string{"web", "-adr", "10.0.0.5:80"}, "unknown flag -adr (did you mean -addr?)"},
		"another near miss":   {[]string{"web", "-helth", "none"}, "did you mean -health?"},
		"unknown check":       {[]string{"web", "-addr", "10.0.0.5:80", "-health", "ping:web"}, `check "ping:web": want tcp:, http:/PATH or https:/PATH [status=200-399] [body=TEXT] [host=NAME] [tls=verify], grpc:[SERVICE], exec:COMMAND, heartbeat:TIME, systemd:UNIT, docker:CONTAINER or none`},
		"a URL as check":      {[]string{"web", "-addr", "10.0.0.5:80", "-health", "http://x/y"}, `want http:/PATH, asked of the announced address`},
		"none and a check":    {[]string{"web", "-addr", "10.0.0.5:80", "-health", "none", "-health", "tcp:"}, `check "none": want it alone`},
		"short ttl":           {[]string{"web", "-addr", "10.0.0.5:80", "-ttl", "1s"}, "-ttl 1s: want 2s to 24h"},
		"ttl without a unit":  {[]string{"web", "-addr", "10.0.0.5:80", "-ttl", "15"}, `invalid value "15" for flag -ttl`},
		"no interval":         {[]string{"web", "-addr", "10.0.0.5:80", "-interval", "0"}, "-interval 0s"},
		"no rise":             {[]string{"web", "-addr", "10.0.0.5:80", "-rise", "0"}, "-rise 0"},
		"negative drain":      {[]string{"web", "-addr", "10.0.0.5:80", "-drain", "-1s"}, "-drain -1s"},
		"weight":              {[]string{"web", "-addr", "10.0.0.5:80", "-weight", "65536"}, "-weight 65536: want 0 to 65535"},
		"route":               {[]string{"web", "-addr", "10.0.0.5:80", "-route", "example.com"}, `route "example.com": want [HOST]/PATH`},
		"label":               {[]string{"web", "-addr", "10.0.0.5:80", "-label", "k"}, `-label "k": want KEY=VALUE`},
		"another store":       {[]string{"web", "-addr", "10.0.0.5:80", "-store", "consul://u:secret@10.0.0.9"}, "announcing writes, so it takes etcd only"},
		"a path in the store": {[]string{"web", "-addr", "10.0.0.5:80", "-store", "etcd://10.0.0.9/services"}, "-prefix"},
		"prefix":              {[]string{"web", "-addr", "10.0.0.5:80", "-prefix", "/"}, `prefix "/": want`},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs strings.Builder
			std := cli.Std{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
			code := sidekickcmd.Main(t.Context(), std, tt.args)
			if code != cli.Usage || !strings.Contains(errs.String(), tt.want) || !strings.Contains(errs.String(), "muster sidekick -h") {
				t.Errorf("muster sidekick %q: got code %d and %q: want 2 and %q", tt.args, code, errs.String(), tt.want)
			}
			if out.Len() > 0 || strings.Contains(errs.String(), "secret") {
				t.Errorf("muster sidekick %q: said %q and %q", tt.args, out.String(), errs.String())
			}
		})
	}
}

func TestFlagsFromTheEnvironment(t *testing.T) {
	var errs strings.Builder
	std := cli.Std{Out: io.Discard, Err: &errs, Getenv: func(name string) string {
		return map[string]string{"MUSTER_ADDR": "10.0.0.5:80", "MUSTER_STOP_TIMEOUT": "never"}[name]
	}}
	if code := sidekickcmd.Main(t.Context(), std, []string{"web"}); code != cli.Usage || !strings.Contains(errs.String(), "MUSTER_STOP_TIMEOUT") {
		t.Errorf("got code %d and %q: want 2 and the variable's name", code, errs.String())
	}
}

// What CoreOS, Docker and registrator set is the default of flags, and MUSTER_*
// wins over it, and a flag over that.
func TestTheEnvironmentOfOthers(t *testing.T) {
	etcd := etcdtest.Start(t)
	all := []string{
		"HOST_IP=10.0.0.7", "SERVICE_NAME=any", "SERVICE_8080_NAME=web", "SERVICE_ID=any1", "SERVICE_8080_ID=web1",
		"SERVICE_TAGS=any", "SERVICE_8080_TAGS=blue, green,",
	}
	for name, tt := range map[string]struct {
		env, args []string
		key, addr string
		tags      string
	}{
		"of the port":       {all, []string{"-addr", ":8080"}, "/services/web/web1", "10.0.0.7:8080", `"tags":["blue","green"]`},
		"of another port":   {all, []string{"-addr", ":9090"}, "/services/any/any1", "10.0.0.7:9090", `"tags":["any"]`},
		"and MUSTER_*":      {append(all, "MUSTER_ID=m1", "MUSTER_TAG=mine"), []string{"-addr", ":8080"}, "/services/web/m1", "10.0.0.7:8080", `"tags":["mine"]`},
		"and flags":         {append(all, "MUSTER_ID=m1"), []string{"api", "-addr", "10.0.0.9:8080", "-id", "f1", "-tag", "a"}, "/services/api/f1", "10.0.0.9:8080", `"tags":["a"]`},
		"without any of it": {nil, []string{"api", "-addr", "10.0.0.9:8080"}, "/services/api/10.0.0.9:8080", "10.0.0.9:8080", `"weight":100,"health"`},
	} {
		t.Run(name, func(t *testing.T) {
			path, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			meta := strings.Replace(tt.key, "/services/", "/services.meta/", 1)
			events := etcd.Client().Watch(t.Context(), meta)
			cmd := exec.Command(path, append(tt.args, "-health", "exec:true", "-store", "etcd://"+etcd.Addr(), "-drain", "0")...)
			cmd.Env = append(os.Environ(), tt.env...)
			cmd.Stderr = t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }()
			select {
			case r := <-events:
				if got := string(r.Events[0].Kv.Value); !strings.Contains(got, tt.tags) && tt.env != nil || !strings.Contains(got, `"addr":"`+tt.addr+`"`) {
					t.Errorf("metadata: got %s: want %s of %s", got, tt.tags, tt.addr)
				}
			case <-time.After(patience):
				t.Fatalf("%s was not written in %v", meta, patience)
			}
		})
	}
}

func TestTheSlimBinarySaysItsOwnName(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "web").CombinedOutput()
	if want := "sidekick: -addr: want HOST:PORT"; err == nil || !strings.HasPrefix(string(out), want) || !strings.Contains(string(out), "Run 'sidekick -h'") {
		t.Errorf("got %v and %q: want %q", err, out, want)
	}
	out, err = exec.Command(path, "-h").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "usage: sidekick NAME") {
		t.Errorf("-h: got %v and %q", err, out)
	}
}

func TestHelp(t *testing.T) {
	var out strings.Builder
	std := cli.Std{Out: &out, Err: io.Discard, Getenv: func(string) string { return "" }}
	if code := sidekickcmd.Main(t.Context(), std, []string{"-h"}); code != cli.Done {
		t.Errorf("got code %d: want 0", code)
	}
	for _, want := range []string{"NAME -addr [HOST]:PORT", "-- CMD", "default 15s", "exec:COMMAND", "MUSTER_STOP_TIMEOUT"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help has no %q:\n%s", want, out.String())
		}
	}
	for _, kind := range []string{" int ", " duration ", " time ", " string ", " value "} {
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "  -") && strings.Contains(line[:min(len(line), 26)], kind) {
				t.Errorf("a kind that says little, %q: %s", kind, line)
			}
		}
	}
}

// The slim binary is what goes into every container beside the app.
func TestTheBinaryIsSlim(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags", "grpcnotrace", "muster/cmd/sidekick").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for _, heavy := range []string{
			"muster/proxy", "muster/template", "muster/config", "muster/discovery", "muster/admin", "muster/backends/open",
			"github.com/valyala/fasthttp", "github.com/prometheus/client_golang", "go.etcd.io/etcd/server", "html/template", "text/template",
		} {
			if dep == heavy || strings.HasPrefix(dep, heavy+"/") {
				t.Errorf("cmd/sidekick drags in %s", dep)
			}
		}
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if size := info.Size(); size > 14<<20 {
		t.Errorf("the stripped binary has %d bytes: want 14 MiB at most", size)
	}
	t.Logf("%.1f MiB", float64(info.Size())/(1<<20))
}
