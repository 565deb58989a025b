package rancher

import (
	"strings"
	"testing"
)

func TestNodes(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "rancher-metadata:80",
		"h":                             "h:80",
		"h:81":                          "h:81",
		"h/latest/":                     "h:80/latest",
		"http://h:81/2015-12-19":        "h:81/2015-12-19",
		"[::1]:81":                      "[::1]:81",
		"rancher://a:81,b/latest":       "a:81/latest b:80/latest",
		"rancher://169.254.169.250/a/b": "169.254.169.250:80/a/b",
	} {
		var cfg Config
		if text != "" {
			cfg.Nodes = []string{text}
		}
		s, err := New(cfg)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got []string
		for _, n := range s.nodes {
			got = append(got, n.addr+n.base)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"h:x":             `node "h:x": want HOST`,
		"https://h":       "scheme https: the metadata service speaks plain HTTP",
		"ftp://h":         "scheme ftp",
		"rancher://":      `node "": want HOST`,
		"rancher://h:x":   `node "h:x": want HOST`,
		"rancher://u:p@h": "knows no users",
		"rancher://h?a=b": `unknown parameter "a"`,
		"http://":         `node "": want HOST`,
	} {
		if _, err := New(Config{Nodes: []string{text}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if _, err := Open("ranchr://h"); err == nil || !strings.Contains(err.Error(), "want rancher://HOST:PORT") {
		t.Errorf("got %v", err)
	}
}
