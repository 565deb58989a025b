package confd_test

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"muster/internal/etcdtest"
	"muster/internal/vaulttest"
)

// vaultCommand is what a script may do with a Vault: vault start runs one, at
// $VAULT, with the token $ROOT and the engines kv1 and kv2; vault start-tls one with TLS, its files at
// $CA, $CERT and $KEY, the client's; vault kill, restart, seal, unseal; vault put
// MOUNT/NAME FIELD=VALUE..., del MOUNT/NAME; vault policy NAME RULES; vault token
// NAME POLICY TTL makes a token, at $NAME; vault revoke TOKEN; vault login TYPE MOUNT
// POLICY TTL lets somebody in, who needs $ROLE_ID and $SECRET_ID, $APP_ID and
// $USER_ID, $USERNAME and $PASSWORD, $GITHUB_TOKEN, or the file jwt.
type vaultCommand struct {
	t      *testing.T
	server *vaulttest.Server
}

func (c *vaultCommand) run(ts *testscript.TestScript, _ bool, args []string) {
	switch args[0] {
	case "start":
		c.start(ts, vaulttest.Config{})
	case "start-tls":
		certs := etcdtest.NewCerts(c.t)
		ts.Setenv("CA", certs.CA)
		ts.Setenv("CERT", certs.ClientCert)
		ts.Setenv("KEY", certs.ClientKey)
		c.start(ts, vaulttest.Config{Certs: &certs})
	case "kill":
		c.server.Kill()
	case "restart":
		c.server.Restart()
	case "seal":
		c.server.Seal()
	case "unseal":
		c.server.Unseal()
	case "put":
		data := make(map[string]any)
		for _, pair := range args[2:] {
			field, value, _ := strings.Cut(pair, "=")
			data[field] = value
		}
		c.server.Put(args[1], data)
	case "del":
		c.server.Delete(args[1])
	case "policy":
		c.server.Policy(args[1], args[2])
	case "token":
		ts.Setenv(args[1], c.server.Token(args[2], args[3]))
	case "revoke":
		c.server.Revoke(args[1])
	case "login":
		l := c.server.Login(args[1], args[2], args[3], args[4], ts.Getenv("CA"))
		for name, value := range map[string]string{
			"ROLE_ID": l.RoleID, "SECRET_ID": l.SecretID, "APP_ID": l.AppID, "USER_ID": l.UserID,
			"USERNAME": l.Username, "PASSWORD": l.Password, "GITHUB_TOKEN": l.Token,
		} {
			ts.Setenv(name, value)
		}
		if l.JWT != "" {
			ts.Check(os.WriteFile(ts.MkAbs("jwt"), []byte(l.JWT+"\n"), 0o600))
		}
	default:
		ts.Fatalf("vault %s: unknown", args[0])
	}
}

func (c *vaultCommand) start(ts *testscript.TestScript, conf vaulttest.Config) {
	c.server = vaulttest.Start(c.t, conf)
	ts.Setenv("VAULT", c.server.Addr())
	ts.Setenv("ROOT", c.server.Root())
}
