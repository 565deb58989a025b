package vault

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("p@ss\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAULT_TOKEN", "of the environment")
	for rawurl, want := range map[string]string{
		"vault://h":                    `http h:8200 {token        }`,
		"vaults://a:1,[::1]?auth=cert": `https a:1, [::1]:8200 {cert        }`,
		"vault://u:p@h":                `http h:8200 {userpass      u p }`,
		"vault://u@h?mount=team/people&password=file:" + secret:      `http h:8200 {userpass team/people     u p@ss }`,
		"vault://h?auth=app-role&role-id=r&secret-id=file:" + secret: `http h:8200 {app-role  r p@ss     }`,
		"vault://h?auth=app-id&app-id=a&user-id=u&interval=30s":      `http h:8200 {app-id    a u   }`,
		"vault://h?auth=kubernetes&role-id=r&jwt=file:/j":            `http h:8200 {kubernetes  r      /j}`,
		"vault://h?token=file:" + secret:                             `http h:8200 {token        }`,
		"vault://h?auth=github&token=file:" + secret:                 `http h:8200 {github        }`,
	} {
		s, err := Open(rawurl, nil)
		if err != nil {
			t.Errorf("Open(%q): %v", rawurl, err)
			continue
		}
		var addrs []string
		for _, n := range s.nodes {
			addrs = append(addrs, n.addr)
		}
		a := s.auth
		scheme, _, _ := strings.Cut(s.nodes[0].client.Address(), ":")
		got := fmt.Sprintf("%s %s {%s %s %s %s %s %s %s %s %s}", scheme, strings.Join(addrs, ", "),
			a.Type, a.Mount, a.RoleID, a.SecretID, a.AppID, a.UserID, a.Username, a.Password, a.JWTFile)
		if got != want {
			t.Errorf("Open(%q): got %s, want %s", rawurl, got, want)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "")
	for rawurl, want := range map[string]string{
		"valt://h":                   "want vault://HOST:PORT or vaults://HOST:PORT",
		"vault://":                   "token is missing from configuration",
		"vault://u:p@":               `node "": want HOST`,
		"vault://u:p@h:x":            `node "h:x": want HOST`,
		"vault://u:hunter2@h/secret": "-prefix",
		"vault://u@h":                "password is missing from configuration",
		"vault://:hunter2@h":         "username is missing from configuration",
		"vault://h?token=hunter2":    "want file:PATH",
		"vault://h?auth=app-role&role-id=r&secret-id=hunter2": "want file:PATH",
		"vault://h?auth=github":                               "token is missing from configuration",
		"vault://h?auth=ldap":                                 `auth "ldap": want token, app-role, app-id, github, userpass, kubernetes, cert`,
		"vault://u:p@h?interval=0":                            `interval "0": want a time such as 30s`,
		"vault://u:p@h?rol-id=x":                              "did you mean role-id?",
		"vault://u:p@h?ca=x":                                  "want vaults://",
		"vaults://u:p@h?ca=/no/such.pem":                      "no such file",
	} {
		_, err := Open(rawurl, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) = %v, want an error with %q and without a secret", rawurl, err, want)
		}
	}
	if _, err := New(Config{Nodes: []string{"vault://h"}, Auth: Auth{Type: "cert"}}); err == nil || !strings.Contains(err.Error(), "want scheme http or https, or none") {
		t.Errorf("a node with another scheme: got %v", err)
	}
}

func TestOuter(t *testing.T) {
	for _, c := range []struct {
		prefixes []string
		want     string
	}{
		{[]string{"/a/b", "/a-b", "/a/"}, "[/a /a-b]"},
		{[]string{"/a", "/a/"}, "[/a]"},
		{[]string{"/a", "/"}, "[]"},
		{[]string{"x", "/a"}, "[/a]"},
		{nil, "[]"},
	} {
		if got := fmt.Sprint(outer(c.prefixes)); got != c.want {
			t.Errorf("outer(%q): got %s, want %s", c.prefixes, got, c.want)
		}
	}
}
