package sidekickcmd_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/sidekickcmd"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// table is one [[announce]] of an app that always passes.
func table(name, more string) string {
	return "[[announce]]\nname = \"" + name + "\"\nid = \"1\"\naddr = \"10.0.0.5:80\"\nhealth = \"none\"\ndrain = \"0s\"\n" + more + "\n"
}

// write replaces a file as an editor does.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// revisions are those of every key, by key.
func revisions(t *testing.T, etcd *etcdtest.Server) map[string]int64 {
	t.Helper()
	resp, err := etcd.Client().Get(t.Context(), "/services", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int64)
	for _, kv := range resp.Kvs {
		found[string(kv.Key)] = kv.ModRevision
	}
	return found
}

// One process announces what a folder says, under one lease. SIGHUP reads it
// again: what is new is announced, what is missing withdrawn, the rest untouched,
// and a file that is bad goes on as it was.
func TestAnnouncesAFolder(t *testing.T) {
	etcd := etcdtest.Start(t)
	dir := t.TempDir()
	socket := filepath.Join(t.TempDir(), "status")
	one, two := filepath.Join(dir, "one.toml"), filepath.Join(dir, "two.toml")
	write(t, one, table("same", "")+table("goes", ""))
	write(t, two, table("kept", ""))
	p := proctest.Start(t, "sidekick", nil, slim(t), "-config", dir, "-store", "etcd://"+etcd.Addr(), "-status", "unix:"+socket, "-zone", "z1")
	ready(t, socket)
	before := revisions(t, etcd)
	if len(before) != 6 {
		t.Fatalf("announced: got %v: want two keys for each of three", before)
	}
	if leases, err := etcd.Client().Leases(t.Context()); err != nil || len(leases.Leases) != 1 {
		t.Errorf("leases: got %v, %v: want one", leases, err)
	}
	resp, err := etcd.Client().Get(t.Context(), "/services.meta/same/1")
	if err != nil || !strings.Contains(string(resp.Kvs[0].Value), `"zone":"z1"`) {
		t.Errorf("metadata: got %v, %v: want the zone of the flag", resp, err)
	}

	write(t, one, "# one line more\n"+table("same", "")+table("new", ""))
	write(t, two, table("kept", "wieght = 3"))
	p.Signal(syscall.SIGHUP)
	p.WaitFor(`two.toml:7: unknown key \"wieght\" in [announce] (did you mean \"weight\"?)`)
	proctest.Eventually(t, "the new one is announced and the other gone", func() bool {
		now := revisions(t, etcd)
		return now["/services/new/1"] > 0 && now["/services.meta/goes/1"] == 0 && now["/services/goes/1"] == 0
	})
	now := revisions(t, etcd)
	for _, key := range []string{"/services/same/1", "/services.meta/same/1", "/services/kept/1", "/services.meta/kept/1"} {
		if now[key] != before[key] {
			t.Errorf("%s: from revision %d to %d: want it untouched", key, before[key], now[key])
		}
	}

	write(t, two, table("kept", "weight = 3"))
	p.Signal(syscall.SIGHUP)
	p.WaitFor("files were read again")
	proctest.Eventually(t, "the new weight", func() bool {
		resp, err := etcd.Client().Get(t.Context(), "/services.meta/kept/1")
		return err == nil && strings.Contains(string(resp.Kvs[0].Value), `"weight":3`)
	})
	if got := revisions(t, etcd)["/services/kept/1"]; got != before["/services/kept/1"] {
		t.Errorf("the value of what has another weight was written again")
	}
	ready(t, socket)

	text, _ := get(t, socket, "/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("/metrics: %v\n%s", err, text)
	}
	if n := len(families["muster_sidekick_announced"].GetMetric()); n != 3 {
		t.Errorf("/metrics: %d announcements: want 3", n)
	}
	if _, code := ask(t, socket, http.MethodPost, "/beat/same"); code != http.StatusNoContent {
		t.Errorf("POST /beat/same: got %d: want 204", code)
	}

	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != cli.Done {
		t.Errorf("exit code: got %d: want 0", code)
	}
	if left := revisions(t, etcd); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// SIGTERM is heard while a file is read that does not end.
func TestLeavesWhileAFileIsRead(t *testing.T) {
	etcd := etcdtest.Start(t)
	dir := t.TempDir()
	socket := filepath.Join(t.TempDir(), "status")
	write(t, filepath.Join(dir, "one.toml"), table("web", ""))
	p := proctest.Start(t, "sidekick", nil, slim(t), "-config", dir, "-store", "etcd://"+etcd.Addr(), "-status", "unix:"+socket)
	ready(t, socket)
	fifo := filepath.Join(dir, "two.toml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	proctest.Eventually(t, "it is being read", func() bool {
		writer, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0) // an error where nobody reads
		if err == nil {
			t.Cleanup(func() { writer.Close() })
		}
		return err == nil
	})
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != cli.Done {
		t.Errorf("exit code: got %d: want 0", code)
	}
	if left := revisions(t, etcd); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// systemd hears that it is ready when no app is starting any more, also where one
// fails.
func TestAFolderTellsSystemd(t *testing.T) {
	etcd := etcdtest.Start(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.toml"), table("web", "")+strings.Replace(table("bad", "start-period = \"0s\""), "none", "exec:false", 1))
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := proctest.Start(t, "sidekick", []string{"NOTIFY_SOCKET=" + socket}, slim(t), "-config", dir, "-store", "etcd://"+etcd.Addr())
	said := func(want ...string) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("systemd was not told %q: %v", want, err)
			}
			text, all := string(buf[:n]), true
			for _, w := range want {
				all = all && strings.Contains(text, w)
			}
			if strings.Contains(text, want[0]) {
				if !all {
					t.Errorf("systemd was told %q: want %q in it", text, want)
				}
				return
			}
		}
	}
	said("READY=1", `STATUS=failing: 1 of 2 announced; bad/1: check "exec:false": exit status 1`)
	p.Signal(syscall.SIGTERM)
	said("STOPPING=1", "EXTEND_TIMEOUT_USEC=", "STATUS=draining")
	p.Wait()
}

// The folder of the examples is announced as it is.
func TestTheExampleFolderAnnounces(t *testing.T) {
	etcd := etcdtest.Start(t)
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	text, err := os.ReadFile(filepath.Join(examples, "announce.d", "web.toml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "web.toml"), strings.Replace(string(text), ":8080", ":"+port, 1))
	proctest.Start(t, "sidekick", []string{"HOST_IP=" + host}, slim(t), "-config", dir, "-store", "etcd://"+etcd.Addr())
	proctest.Eventually(t, "it is announced", func() bool { return revisions(t, etcd)["/services/web/"+net.JoinHostPort(host, port)] > 0 })
}

func TestConfigUsage(t *testing.T) {
	dir := t.TempDir()
	good, beats, twice := filepath.Join(dir, "good.toml"), filepath.Join(dir, "beats.toml"), filepath.Join(dir, "twice.toml")
	write(t, good, table("web", ""))
	write(t, beats, strings.Replace(table("web", ""), "none", "heartbeat:10s", 1))
	write(t, twice, table("web", "")+table("web", ""))
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a name":          {[]string{"web", "-config", good}, cli.Usage, `"web": want no NAME beside -config`},
		"an address":      {[]string{"-config", good, "-addr", "h:1"}, cli.Usage, "-addr: want it without -config"},
		"a route":         {[]string{"-config", good, "-route", "/"}, cli.Usage, "-route: want it without -config"},
		"a command":       {[]string{"-config", good, "--", "true"}, cli.Usage, "-- CMD: want it without -config"},
		"a short ttl":     {[]string{"-config", good, "-ttl", "1s"}, cli.Usage, "-ttl 1s: want 2s to 24h"},
		"nothing there":   {[]string{"-config", filepath.Join(dir, "nothing")}, cli.Failed, "no such file"},
		"nowhere to beat": {[]string{"-config", beats}, cli.Failed, "beats.toml:1: health heartbeat: wants -status too"},
		"one key twice":   {[]string{"-config", twice}, cli.Failed, "twice.toml:8: /services/web/1 is announced already, by " + twice + ":1"},
		"all of it":       {[]string{"-config", dir}, cli.Failed, "beats.toml:1: health heartbeat: wants -status too"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs strings.Builder
			std := cli.Std{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
			if code := sidekickcmd.Main(t.Context(), std, tt.args); code != tt.code || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("muster sidekick %q: got code %d and %q: want %d and %q", tt.args, code, errs.String(), tt.code, tt.want)
			}
		})
	}
}

// MUSTER_CONFIG may be meant for the proxy of the same machine.
func TestANameGoesBeforeConfigOfTheEnvironment(t *testing.T) {
	var out, errs strings.Builder
	std := cli.Std{Out: &out, Err: &errs, Getenv: func(name string) string {
		return map[string]string{"MUSTER_CONFIG": "/etc/muster/muster.toml"}[name]
	}}
	if code := sidekickcmd.Main(t.Context(), std, []string{"web"}); code != cli.Usage || !strings.Contains(errs.String(), "-addr: want HOST:PORT") {
		t.Errorf("got code %d and %q: want what is wrong without -config", code, errs.String())
	}
}

func TestTheUnitOfAFolder(t *testing.T) {
	text := printed(t, "-config", "/etc/muster/announce.d", "-zone", "z1")
	for _, want := range []string{
		"Description=announces what /etc/muster/announce.d says\n", "After=network-online.target\n",
		"ExecStart=/usr/local/bin/muster sidekick -config /etc/muster/announce.d -zone z1\n",
		"ExecReload=/bin/kill -HUP $MAINPID\n", "RuntimeDirectory=muster/%N\n", "WantedBy=multi-user.target\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the unit has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "BindsTo") {
		t.Errorf("the unit is bound to another:\n%s", text)
	}
}
