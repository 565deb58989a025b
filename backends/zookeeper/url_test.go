package zookeeper

import (
	"fmt"
	"strings"
	"testing"

	"muster/internal/etcdtest"
)

func TestOpen(t *testing.T) {
	ca := etcdtest.NewCerts(t).CA
	describe := func(s *Store) string {
		text := fmt.Sprintf("%v %q %q", s.addrs, s.chroot, s.digest)
		if s.secure != nil {
			text += " TLS"
		}
		return text
	}
	for rawurl, want := range map[string]string{
		"zk://h":                     `[h:2181] "" ""`,
		"zk://a:1,[::1]:2/x/y/":      `[a:1 [::1]:2] "/x/y" ""`,
		"zk://u:p%40s@a,b/":          `[a:2181 b:2181] "" "u:p@s"`,
		"zk://h/a%20b":               `[h:2181] "/a%20b" ""`,
		"zks://h,b:1":                `[h:2281 b:1] "" "" TLS`,
		"zks://u:p@h/x?ca=" + ca:     `[h:2281] "/x" "u:p" TLS`,
		"zks://h?ca=/no/such.pem":    "",
		"zks://h?cert=" + ca:         "",
		"zk://h?ca=" + ca:            "",
		"redis://h":                  "",
		"zk://":                      "",
		"zk://h:x":                   "",
		"zk://u@h":                   "",
		"zk://:p@h":                  "",
		"zk://h//x":                  "",
		"zk://h/a/../b":              "",
		"zk://h?chroot=x":            "",
		"zk://u:p@h?password=file:x": "",
	} {
		s, err := Open(rawurl, nil)
		if (err != nil) != (want == "") {
			t.Errorf("Open(%q): got %v, %v", rawurl, s, err)
		} else if err == nil && describe(s) != want {
			t.Errorf("Open(%q): got %s, want %s", rawurl, describe(s), want)
		}
	}
	if _, err := Open("zk://u:hunter2@h:x", nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
	s, err := New(Config{Nodes: []string{"zk://u:p@a,b/c"}})
	if err != nil || fmt.Sprintf("%v %q %q", s.addrs, s.chroot, s.digest) != `[a:2181 b:2181] "/c" "u:p"` {
		t.Errorf("a URL as a node: got %+v, %v", s, err)
	}
}

func TestOpenSaysWhatIsWrongWithTLS(t *testing.T) {
	for rawurl, want := range map[string]string{
		"zk://h?ca=x":             "ca, cert and key are for TLS: want zks://",
		"zks://h?ca=/no/such.pem": "/no/such.pem: no such file",
		"zks://h?cert=x":          "want a client certificate and its key, or neither",
		"zsk://h":                 "want zk://HOST:PORT or zks://HOST:PORT",
	} {
		if _, err := Open(rawurl, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q) = %v, want %q", rawurl, err, want)
		}
	}
}

func TestRoots(t *testing.T) {
	for _, c := range []struct {
		chroot, prefixes, want string
	}{
		{"", "/a", "[/a]"},
		{"", "/a /a/b /c/ /a/ /ab", "[/a /c /ab]"},
		{"", "/a /", "[/]"},
		{"/x", "/ /a", "[/x]"},
		{"/x", "/a a //b /c//d /../e", "[/x/a]"},
	} {
		s := &Store{chroot: c.chroot}
		if got := fmt.Sprint(s.roots(strings.Fields(c.prefixes))); got != c.want {
			t.Errorf("chroot %q, prefixes %s: got %s, want %s", c.chroot, c.prefixes, got, c.want)
		}
	}
}

func FuzzRoots(f *testing.F) {
	f.Add("/a/b", "/a")
	f.Add("", "/\x00")
	f.Fuzz(func(t *testing.T, a, b string) {
		s := &Store{chroot: "/x"}
		for _, root := range s.roots([]string{a, b}) {
			if !isPath(root) || !strings.HasPrefix(root, "/x") {
				t.Errorf("%q and %q: root %q", a, b, root)
			}
		}
	})
}
