package confd

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"muster/cmd/internal/cli"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// confdir makes a folder with one resource that shows /x in dest.
func confdir(t *testing.T) (dir, dest string) {
	dir = t.TempDir()
	dest = filepath.Join(dir, "out")
	for name, text := range map[string]string{
		"conf.d/r.toml": "[template]\nsrc = 't'\ndest = '" + dest + "'\nkeys = ['/x']\n",
		"templates/t":   `{{getv "/x" "none"}}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, dest
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newProgram(dns *net.Resolver, log *syncBuffer) *program {
	return &program{cli.Std{In: strings.NewReader(""), Out: log, Err: log, Getenv: func(string) string { return "" }}, dns}
}

func put(t *testing.T, server *etcdtest.Server, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	if _, err := server.Client().Put(ctx, "/x", value); err != nil {
		t.Fatal(err)
	}
}

func TestNodesFromSRV(t *testing.T) {
	dns, server := StartNameServer(t), etcdtest.Start(t)
	put(t, server, "found")
	away := proctest.FreeAddr(t)
	_, port, _ := net.SplitHostPort(server.Addr())
	_, awayPort, _ := net.SplitHostPort(away)
	dns.Set(t, "_etcd._tcp.fleet.test.", away, server.Addr())
	dns.Set(t, "store.fleet.test.", server.Addr())
	for _, c := range []struct {
		name    string
		args    []string
		sources string
	}{
		{"a domain", []string{"-srv-domain", "fleet.test"}, "http://localhost:" + awayPort + ", http://localhost:" + port},
		{"a record", []string{"-srv-record", "store.fleet.test.", "-srv-domain", "other.test"}, "http://localhost:" + port},
		{"instead of nodes", []string{"-srv-record", "store.fleet.test.", "-node", away}, "http://localhost:" + port},
		{"without a scheme", []string{"-srv-record", "store.fleet.test.", "-backend", "etcdv3"}, "localhost:" + port},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, dest := confdir(t)
			var log syncBuffer
			args := append([]string{"-onetime", "-confdir", dir, "-config-file", dir + "/none"}, c.args...)
			if code := newProgram(dns.resolver(), &log).main(t.Context(), "confd", args); code != cli.Done {
				t.Errorf("exit %d\n%s", code, log.String())
			}
			if text, err := os.ReadFile(dest); err != nil || string(text) != "found" {
				t.Errorf("got %q, %v, want found", text, err)
			}
			for _, line := range []string{"INFO SRV record set to ", "INFO Backend source(s) set to " + c.sources + "\n"} {
				if !strings.Contains(log.String(), line) {
					t.Errorf("log has no %q:\n%s", line, log.String())
				}
			}
		})
	}

	// -scheme is the nodes' too; this etcd has no TLS, so it ends there.
	dir, _ := confdir(t)
	var log syncBuffer
	args := []string{"-onetime", "-confdir", dir, "-config-file", dir + "/none", "-srv-record", "store.fleet.test.", "-scheme", "https"}
	if code := newProgram(dns.resolver(), &log).main(t.Context(), "confd", args); code != cli.Failed || !strings.Contains(log.String(), "set to https://localhost:"+port) {
		t.Errorf("-scheme https: exit %d, want 1 and https in\n%s", code, log.String())
	}
}

// The store moves, and DNS says where to: confd goes there by itself, whether it
// watches, here the keys of two resources at once, or reads.
func TestSRVIsAskedAgainWhenTheStoreIsLost(t *testing.T) {
	for _, how := range [][]string{{"-watch"}, {"-interval", "1"}} {
		t.Run(how[0], func(t *testing.T) { followSRV(t, how) })
	}
}

func followSRV(t *testing.T, how []string) {
	dns, first, second := StartNameServer(t), etcdtest.Start(t), etcdtest.Start(t)
	put(t, first, "first")
	put(t, second, "second")
	dns.Set(t, "store.test.", first.Addr())
	dir, dest := confdir(t)
	other := "[template]\nsrc = 't'\ndest = '" + filepath.Join(dir, "other") + "'\nkeys = ['/other']\n"
	if err := os.WriteFile(filepath.Join(dir, "conf.d/other.toml"), []byte(other), 0o644); err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int)
	go func() {
		args := append(how, "-confdir", dir, "-config-file", dir+"/none", "-srv-record", "store.test.")
		code <- newProgram(dns.resolver(), &log).main(ctx, "confd", args)
	}()
	is := func(text string) func() bool {
		return func() bool { got, _ := os.ReadFile(dest); return string(got) == text }
	}
	proctest.Eventually(t, "the first store's text", is("first"))
	dns.Set(t, "store.test.", second.Addr())
	put(t, first, "first again") // nothing is lost: nobody asks
	proctest.Eventually(t, "the first store's news", is("first again"))
	first.Kill()
	proctest.Eventually(t, "the second store's text", is("second"))
	put(t, second, "second again")
	proctest.Eventually(t, "the second store's news", is("second again"))
	cancel()
	if got := <-code; got != cli.Done {
		t.Errorf("exit %d, want 0\n%s", got, log.String())
	}
}
