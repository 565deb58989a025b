package redis

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func describe(s *Store) string {
	var nodes []string
	for _, n := range s.nodes {
		nodes = append(nodes, fmt.Sprintf("%s %s/%d %s:%s tls=%v master=%q", n.network, n.addr, n.db, n.user, n.password, n.secure, n.master))
	}
	return strings.Join(nodes, "; ") + " separator=" + s.names.separator
}

func TestOpen(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("p@ss\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for rawurl, want := range map[string]string{
		"redis://h":                              `tcp h:6379/0 : tls=false master="" separator=`,
		"redis://:p%40ss@h:1/3":                  `tcp h:1/3 :p@ss tls=false master="" separator=`,
		"redis://u:p@a,[::1]:2/":                 `tcp a:6379/0 u:p tls=false master=""; tcp [::1]:2/0 u:p tls=false master="" separator=`,
		"rediss://h?separator=%3A":               `tcp h:6379/0 : tls=true master="" separator=:`,
		"redis://u@h?password=file:" + secret:    `tcp h:6379/0 u:p@ss tls=false master="" separator=`,
		"redis://h?password=file:" + secret:      `tcp h:6379/0 :p@ss tls=false master="" separator=`,
		"redis://:p@h/1?sentinel=main":           `tcp h:26379/1 :p tls=false master="main" separator=`,
		"redis://a:1,b:2/1?sentinel=m&separator": "", // wrong
	} {
		s, err := Open(rawurl, nil)
		if want == "" {
			if err == nil {
				t.Errorf("Open(%q): want an error", rawurl)
			}
			continue
		}
		if err != nil {
			t.Errorf("Open(%q): %v", rawurl, err)
		} else if got := describe(s); got != want {
			t.Errorf("Open(%q): got %s, want %s", rawurl, got, want)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	for rawurl, want := range map[string]string{
		"redes://h":                       "want redis://HOST:PORT or rediss://HOST:PORT",
		"redis://":                        `node "": want HOST`,
		"redis://h:x":                     `node "h:x": want HOST`,
		"redis://h/services":              `database "services": want a number`,
		"redis://h/-1":                    `database "-1": want a number`,
		"redis://u@h":                     "a user without a password",
		"redis://:hunter2@h?password=x":   "want file:PATH",
		"redis://:hunter2@h?db=3":         `unknown parameter "db"`,
		"redis://h?seperator=x":           "did you mean separator?",
		"redis://h?ca=x":                  "want rediss://",
		"rediss://h?ca=/no/such":          "open /no/such: no such file or directory",
		"rediss://h?cert=/no/such":        "want a client certificate and its key",
		"redis://h?sentinel-password=x":   "want file:PATH",
		"redis://h?password=file:/no/way": "open /no/way: no such file or directory",
	} {
		s, err := Open(rawurl, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) = %v, %v, want an error with %q and without the password", rawurl, s, err, want)
		}
	}
}

// confd's nodes: HOST[:PORT][/DATABASE], a socket, or a URL.
func TestNodes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "redis.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Chdir(filepath.Dir(socket))
	for node, want := range map[string]string{
		"h":                      `tcp h:6379/0 :pw tls=false master="" separator=:`,
		"h:1/4":                  `tcp h:1/4 :pw tls=false master="" separator=:`,
		socket:                   `unix ` + socket + `/0 :pw tls=false master="" separator=:`,
		"redis.sock":             `unix redis.sock/0 :pw tls=false master="" separator=:`,
		"rediss://u:x@h/2":       `tcp h:6379/2 u:x tls=true master="" separator=:`,
		"h:1/x":                  "",
		"h:0":                    "",
		"http://h":               "",
		"redis://h?separator=--": "",
	} {
		s, err := New(Config{Nodes: []string{node}, Password: "pw", Separator: ":"})
		if (err != nil) != (want == "") {
			t.Errorf("%q: got %v, %v", node, s, err)
		} else if err == nil && describe(s) != want {
			t.Errorf("%q: got %s, want %s", node, describe(s), want)
		}
	}
}

func TestTellsAll(t *testing.T) {
	for setting, want := range map[string]bool{
		"": false, "KA": true, "AK": true, "AKE": true, "EA": false, "A": false,
		"Kg$hxe": true, "g$hxeK": true, "g$lshzxetdK": true, "Kg$hx": false, "K$": false, "Ex": false,
	} {
		if got := tellsAll(setting); got != want {
			t.Errorf("tellsAll(%q): got %v, want %v", setting, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ separator, name, raw string }{
		{"", "/a/b", "/a/b"},
		{":", "/a/b", "a:b"},
		{"--", "/a/b/c", "a--b--c"},
		{"/", "/a/b", "a/b"},
	} {
		n := names{c.separator}
		if raw, name := n.raw(c.name), n.name(c.raw); raw != c.raw || name != c.name {
			t.Errorf("separator %q: %q is %q and back %q, want %q", c.separator, c.name, raw, name, c.raw)
		}
	}
	if got := (names{}).name("plain"); got != "/plain" {
		t.Errorf(`the key "plain" is called %q, want "/plain"`, got)
	}
}

func FuzzNames(f *testing.F) {
	f.Add(":", "/a/b", "a:b")
	f.Add("", "//", "*")
	f.Fuzz(func(t *testing.T, separator, prefix, raw string) {
		w := names{separator}.wanted([]string{prefix})
		w.patterns()
		if name := w.names.name(raw); name == "" || name[0] != '/' {
			t.Errorf("the key %q is called %q, want a slash in front", raw, name)
		}
		if w.wants(prefix) && !w.all && !w.exact[w.names.raw(prefix)] && prefix[len(prefix)-1] != '/' {
			t.Errorf("separator %q: %q is not looked for as %q", separator, prefix, w.names.raw(prefix))
		}
	})
}
