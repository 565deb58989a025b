package confd_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/confd"
	"muster/internal/etcdtest"
)

// run runs confd in this process on a resource that shows /secret/x.
func run(t *testing.T, args ...string) (code int, log, rendered string) {
	t.Helper()
	dir := t.TempDir()
	dest := filepath.Join(dir, "out")
	for name, text := range map[string]string{
		"conf.d/r.toml": "[template]\nsrc = 't'\ndest = '" + dest + "'\nkeys = ['/secret']\n",
		"templates/t":   `{{getv "/secret/x"}}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	std := cli.Std{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	args = append([]string{"-onetime", "-confdir", dir, "-config-file", dir + "/none"}, args...)
	code = confd.Main(t.Context(), std, "confd", args)
	if out.Len() > 0 {
		t.Errorf("stdout: got %q, want nothing", out.String())
	}
	text, err := os.ReadFile(dest)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return code, errs.String(), string(text)
}

func TestTLSAndLogin(t *testing.T) {
	certs := etcdtest.NewCerts(t)
	server := etcdtest.Start(t, etcdtest.MutualTLS(certs), etcdtest.Auth("reader", "pass-word", "/secret/"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := server.Client().Put(ctx, "/secret/x", "found"); err != nil {
		t.Fatal(err)
	}
	tls := []string{"-client-ca-keys", certs.CA, "-client-cert", certs.Cert, "-client-key", certs.Key}
	login := []string{"-basic-auth", "-username", "reader", "-password", "pass-word"}
	node := []string{"-node", server.Addr()}
	for _, c := range []struct {
		name string
		args [][]string
		code int
		text string
	}{
		{"all given", [][]string{node, tls, login}, 0, "found"},
		{"https in the node", [][]string{{"-node", "https://" + server.Addr()}, tls, login}, 0, "found"},
		{"the login without -basic-auth", [][]string{node, tls, login[1:]}, 1, ""},
		{"a wrong password", [][]string{node, tls, login, {"-password", "wrong"}}, 1, ""},
		{"no client certificate", [][]string{node, tls[:2], login}, 1, ""},
		{"no TLS", [][]string{node, login}, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var args []string
			for _, a := range c.args {
				args = append(args, a...)
			}
			code, log, text := run(t, args...)
			if code != c.code || text != c.text {
				t.Errorf("got exit %d and %q, want %d and %q\n%s", code, text, c.code, c.text, log)
			}
			if strings.Contains(log, "pass-word") {
				t.Errorf("the password is in the log:\n%s", log)
			}
		})
	}
}

// A member that hangs must not hang confd: another one, or an error.
func TestFrozenEtcd(t *testing.T) {
	frozen, good := etcdtest.Start(t), etcdtest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := good.Client().Put(ctx, "/secret/x", "found"); err != nil {
		t.Fatal(err)
	}
	frozen.Stop()
	defer frozen.Cont()
	if code, log, text := run(t, "-node", frozen.Addr(), "-node", good.Addr()); code != 0 || text != "found" {
		t.Errorf("one frozen: got exit %d and %q\n%s", code, text, log)
	}
	if code, log, _ := run(t, "-node", frozen.Addr()); code != 1 || !strings.Contains(log, "FATAL etcd "+frozen.Addr()) {
		t.Errorf("all frozen: got exit %d\n%s", code, log)
	}
}
