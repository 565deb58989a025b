package vault_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/backends/backendtest"
	"muster/backends/vault"
	"muster/internal/etcdtest"
	"muster/internal/storeaddr"
	"muster/internal/vaulttest"
)

const reader = `path "kv2/*" { capabilities = ["read", "list"] }`

func auth(t *testing.T, kind, mount string, l vaulttest.Login) vault.Auth {
	t.Helper()
	a := vault.Auth{
		Type: kind, Mount: mount, RoleID: l.RoleID, SecretID: l.SecretID, AppID: l.AppID, UserID: l.UserID,
		Username: l.Username, Password: l.Password, Token: l.Token,
	}
	if l.JWT != "" {
		a.JWTFile = filepath.Join(t.TempDir(), "jwt")
		write(t, a.JWTFile, l.JWT)
	}
	return a
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Each login lets in, at its own mount and at another; its token counts, and not
// the one of VAULT_TOKEN. Who is wrong is told so.
func TestLogins(t *testing.T) {
	certs := etcdtest.NewCerts(t)
	s := vaulttest.Start(t, vaulttest.Config{Certs: &certs})
	s.Policy("reader", reader)
	s.Put("kv2/k", value("a"))
	t.Setenv("VAULT_TOKEN", "a token that is none")
	for kind, wrong := range map[string]struct {
		change func(a *vault.Auth)
		want   string
	}{
		"app-role":   {func(a *vault.Auth) { a.SecretID = "hunter2" }, "invalid secret id (status 400)"},
		"app-id":     {func(a *vault.Auth) { a.UserID = "hunter2" }, "invalid user ID or app ID (status 400)"},
		"userpass":   {func(a *vault.Auth) { a.Password = "hunter2" }, "invalid username or password (status 400)"},
		"github":     {func(a *vault.Auth) { a.Token = "hunter2" }, "Bad credentials"},
		"kubernetes": {func(a *vault.Auth) { a.RoleID = "hunter3" }, `invalid role name "hunter3" (status 400)`},
		"cert":       {nil, "client certificate must be supplied (status 400)"},
	} {
		t.Run(kind, func(t *testing.T) {
			own := map[string]string{"app-role": "approle"}[kind]
			if own == "" {
				own = kind
			}
			for _, mount := range []string{"", "another/" + own} {
				at := mount
				if mount == "" {
					at = own
				}
				a := auth(t, kind, mount, s.Login(kind, at, "reader", "1h", certs.CA))
				conf := vault.Config{
					Nodes: []string{"https://" + s.Addr()}, Auth: a, Interval: often,
					Files: storeaddr.TLS{CA: certs.CA, Cert: certs.ClientCert, Key: certs.ClientKey},
				}
				if kind != "cert" {
					conf.Files.Cert, conf.Files.Key = "", ""
				}
				follow(t, conf).Has("/kv2/k=a")
				if mount != "" {
					continue
				}
				if wrong.change != nil {
					wrong.change(&conf.Auth)
				}
				conf.Files.Cert, conf.Files.Key = "", ""
				r := follow(t, conf)
				r.Fails(wrong.want)
				if got := r.Errors[0]; strings.Contains(got, "hunter2") || !strings.HasPrefix(got, "login "+kind+": vault "+s.Addr()+": ") {
					t.Errorf("got %q, want which login and where, and no secret", got)
				}
			}
		})
	}
}

func follow(t *testing.T, conf vault.Config) *backendtest.Reader {
	t.Helper()
	store, err := vault.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return backendtest.NewReader(t, store, "/kv2/k")
}

// A token that is renewed in time never ends.
func TestTokenIsRenewed(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Policy("reader", reader)
	s.Put("kv2/k", value("a"))
	begin := time.Now()
	token := s.Token("reader", "4s")
	r := backendtest.NewReader(t, open(t, s.Addr(), vault.Auth{Type: "token", Token: token}, nil), "/kv2/k")
	r.Has("/kv2/k=a")
	r.Until("it would have ended twice", func() bool { return time.Since(begin) > 9*time.Second })
	s.Put("kv2/k", value("b"))
	r.Has("/kv2/k=b")
	r.Counts(0, 1)
}

// A login whose token can be renewed no more is made again, without an error.
func TestLoginIsMadeAgain(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Policy("reader", reader)
	s.Put("kv2/k", value("a"))
	begin := time.Now()
	l := s.Login("userpass", "userpass", "reader", "2s", "")
	s.Write("auth/userpass/users/"+l.Username, map[string]any{"token_max_ttl": "3s"})
	r := backendtest.NewReader(t, open(t, s.Addr(), auth(t, "userpass", "", l), nil), "/kv2/k")
	r.Has("/kv2/k=a")
	r.Until("it has ended twice", func() bool { return time.Since(begin) > 7*time.Second })
	s.Put("kv2/k", value("b"))
	r.Has("/kv2/k=b")
	r.Counts(0, 1)
}

// A token that somebody revoked is one of the reasons to log in again.
func TestRevokedTokenHeals(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Policy("reader", reader)
	s.Put("kv2/k", value("a"))
	l := s.Login("app-role", "approle", "reader", "1h", "")
	r := backendtest.NewReader(t, open(t, s.Addr(), auth(t, "app-role", "", l), nil), "/kv2/k")
	r.Has("/kv2/k=a")
	s.Write("sys/leases/revoke-prefix/auth/approle", nil) // all its tokens
	s.Put("kv2/k", value("b"))
	r.Has("/kv2/k=b")
	r.Counts(0, 1)

	// One of a file waits for another.
	file := filepath.Join(t.TempDir(), "token")
	first := s.Token("reader", "1h")
	write(t, file, first)
	r = backendtest.NewReader(t, open(t, s.Addr(), vault.Auth{Type: "token", TokenFile: file}, nil), "/kv2/k")
	r.Has("/kv2/k=b")
	s.Revoke(first)
	r.Fails("login token: vault " + s.Addr() + ": permission denied (status 403)")
	write(t, file, s.Token("reader", "1h"))
	s.Put("kv2/k", value("c"))
	r.Has("/kv2/k=c")
}

func TestMissingFiles(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	none := filepath.Join(t.TempDir(), "none")
	for _, a := range []vault.Auth{{Type: "kubernetes", RoleID: "web", JWTFile: none}, {Type: "token", TokenFile: none}} {
		backendtest.NewReader(t, open(t, s.Addr(), a, nil), "/kv2/k").Fails("open " + none + ": no such file or directory")
	}
}
