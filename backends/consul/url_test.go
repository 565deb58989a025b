package consul

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/backends"
)

func describe(s *Store) string {
	var nodes []string
	for _, n := range s.nodes {
		nodes = append(nodes, fmt.Sprintf("%s dc=%q token=%q", n.addr, n.dc, n.tokenFile))
	}
	return strings.Join(nodes, "; ")
}

func TestOpen(t *testing.T) {
	for rawurl, want := range map[string]string{
		"consul://h":                            `h:8500 dc="" token=""`,
		"consul://u:p@a:1,[::1]":                `a:1 dc="" token=""; [::1]:8500 dc="" token=""`,
		"consuls://h?dc=east&token=file:/t":     `h:8500 dc="east" token="/t"`,
		"consul://h?token=file:/run/t&dc=north": `h:8500 dc="north" token="/run/t"`,
	} {
		s, err := Open(rawurl, nil)
		if err != nil {
			t.Errorf("Open(%q): %v", rawurl, err)
		} else if got := describe(s); got != want {
			t.Errorf("Open(%q): got %s, want %s", rawurl, got, want)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for rawurl, want := range map[string]string{
		"consl://h":           "want consul://HOST:PORT or consuls://HOST:PORT",
		"consul://":           `node "": want HOST`,
		"consul://h:x":        `node "h:x": want HOST`,
		"consul://h/services": "-prefix",
		"consul://u@h":        "want USER:PASSWORD before @",
		"consul://:hunter2@h": "want USER:PASSWORD before @",
		"consul://u:hunter2@h?password=file:" + empty: "is empty",
		"consul://h?token=hunter2":                    "want file:PATH",
		"consul://h?tokn=file:x":                      "did you mean token?",
		"consul://h?ca=x":                             "want consuls://",
		"consuls://h?ca=/no/such.pem":                 "no such file",
		"consuls://h?ca=" + empty:                     "no certificate in it",
		"consuls://h?cert=" + empty:                   "want a client certificate and its key",
	} {
		_, err := Open(rawurl, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) = %v, want an error with %q and without the password", rawurl, err, want)
		}
	}
}

func TestNodes(t *testing.T) {
	for text, want := range map[string]string{
		"h":                       `http h:8500`,
		"h:1":                     `http h:1`,
		"http://h/":               `http h:8500`,
		"https://h:1":             `https h:1`,
		"http://h:1/proxied/path": `http h:1`,
		"unix:///run/consul.sock": `http /run/consul.sock`,
		"consuls://u:p@a":         `https a:8500`,
	} {
		s, err := New(Config{Nodes: []string{text}})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := s.nodes[0].scheme + " " + s.nodes[0].addr; got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"ftp://h": "want scheme http, https or unix",
		"unix://": "want unix:///PATH",
		"h:x":     `node "h:x"`,
	} {
		if _, err := New(Config{Nodes: []string{text}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// What begins alike comes in one list, and there are never more than an agent
// gives connections.
func TestQueries(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(prefixes ...string) string {
		var list []string
		for _, q := range s.queries(prefixes) {
			list = append(list, fmt.Sprintf("%q %q", q.begin, q.prefixes))
		}
		return strings.Join(list, "; ")
	}
	for _, c := range []struct {
		prefixes []string
		want     string
	}{
		{[]string{"/services.meta", "/services"}, `"services" ["/services" "/services.meta"]`},
		{[]string{"/b/", "/a", "/b/c", "x"}, `"a" ["/a"]; "b" ["/b/" "/b/c"]`},
		{[]string{"/a", "/"}, `"" ["/" "/a"]`},
		{[]string{"", "/a"}, `"" ["" "/a"]`},
		{[]string{"x"}, ``},
	} {
		if got := text(c.prefixes...); got != c.want {
			t.Errorf("%q: got %s, want %s", c.prefixes, got, c.want)
		}
	}
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("/app/%d/config", i), fmt.Sprintf("/other%d", i%3))
	}
	queries := s.queries(many)
	if n := len(queries); n > maxQueries || n < maxQueries/2 {
		t.Errorf("got %d queries for %d prefixes, want up to %d", n, len(many), maxQueries)
	}
	for _, p := range many {
		n := 0
		for _, q := range queries {
			if strings.HasPrefix(p[1:], q.begin) && backends.UnderAny(nil, q.prefixes, p) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%q is in %d queries, want 1", p, n)
		}
	}
}
