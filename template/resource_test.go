package template

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestPrefixesAndNames(t *testing.T) {
	for _, c := range []struct {
		name, prefix, override string
		keys, prefixes         []string
		stored, named          []string
	}{
		{"none", "", "", []string{"/web", "db/"}, []string{"/web", "/db"}, []string{"/web/1", "/db"}, []string{"/web/1", "/db"}},
		{"own", "prod", "", []string{"/web", "/"}, []string{"/prod/web", "/prod"}, []string{"/prod/web/1", "/prod"}, []string{"/web/1", "/"}},
		{"replaced", "/prod", "/test", []string{"/web"}, []string{"/test/web"}, []string{"/test/web/1", "/prod/web"}, []string{"/web/1", "/prod/web"}},
		{"cut by elements", "/web", "", []string{"/"}, []string{"/web"}, []string{"/webdav/u", "/web/web/u"}, []string{"/webdav/u", "/web/u"}},
		{"a slash behind", "/web/", "", []string{"/"}, []string{"/web"}, []string{"/web/u", "/web"}, []string{"/u", "/web"}},
		{"a star", "", "", []string{"/web/*"}, []string{"/web"}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Resource{Prefix: c.prefix, Keys: c.keys}
			if got := r.prefixes(c.override); !reflect.DeepEqual(got, c.prefixes) {
				t.Errorf("prefixes: got %q, want %q", got, c.prefixes)
			}
			for i, key := range c.stored {
				if got := r.name(c.override, key); got != c.named[i] {
					t.Errorf("name(%q) = %q, want %q", key, got, c.named[i])
				}
			}
		})
	}
}

func TestParseErrorsSayWhere(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"syntax", "[template]\nsrc = \n", "r.toml:2: expected value but found "},
		{"type", "[template]\nsrc = \"t\"\nkeys = \"/a\"\n", "r.toml:3: template.keys: got text, want a list"},
		{"type in a list", "[template]\nsrc = \"t\"\nkeys = [\"/a\", 1]\n", "r.toml:3: template.keys: got a whole number, want text"},
		{"mode", "[template]\nsrc = \"t\"\nmode = 640\n", "r.toml:3: template.mode: got a whole number, want text"},
		{"owner", "[template]\nsrc = \"t\"\nuid = \"root\"\n", "r.toml:3: template.uid: got text, want a whole number"},
		{"below", "[template]\nsrc.a = true\n", "r.toml: template.src: got a table, want text"},
		{"several", "[[template]]\nsrc = \"t\"\n", "r.toml:1: template: got a list of tables, want a table"},
		{"beyond", "[template]\nuid = 99999999999999999999\n", "r.toml:2: 99999999999999999999 is out of range"},
		{"twice", "[template]\nsrc = \"t\"\n[template]\n", "r.toml:3: Key 'template' has already been defined"},
		{"no src", "[template]\n\nsrc = \"\"\n", "r.toml:3: empty src template"},
		{"no table", "x = 1\n", "r.toml: empty src template"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseResource("r.toml", c.text)
			var load *LoadError
			if !errors.As(err, &load) || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s…", err, c.want)
			}
		})
	}
}

func TestOwnersByName(t *testing.T) {
	r := &Resource{Owner: "root", Group: "no-such-group", File: "r.toml", text: "[template]\nGroup = 'no-such-group'\n"}
	if _, _, err := r.owners(); err == nil || !strings.HasPrefix(err.Error(), `r.toml:2: group "no-such-group": `) {
		t.Errorf("got %v, want the unknown group and its line", err)
	}
	zero := 0
	r.GID = &zero // counts, whatever the name says
	if uid, gid, err := r.owners(); uid != 0 || gid != 0 || err != nil {
		t.Errorf("got %d, %d, %v, want root", uid, gid, err)
	}
	if uid, gid, err := new(Resource).owners(); uid != os.Geteuid() || gid != os.Getegid() || err != nil {
		t.Errorf("got %d, %d, %v, want the process's own", uid, gid, err)
	}
}

func FuzzParseResource(f *testing.F) {
	f.Add("[template]\nsrc = 't'\ndest = '/x'\nkeys = ['/']\nmode = '0640'\n")
	f.Add("template.src = 't'\ntemplate.uid = -1\n")
	f.Add("[[template]]\nsrc = 1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseResource("r.toml", text)
		if (r == nil) == (err == nil) {
			t.Fatalf("got %v, %v, want one of them", r, err)
		}
		if err != nil {
			return
		}
		for _, prefix := range r.prefixes("") {
			if !strings.HasPrefix(prefix, "/") {
				t.Errorf("prefix %q does not begin with a slash", prefix)
			}
			if name := r.name("", prefix); !strings.HasPrefix(name, "/") {
				t.Errorf("name %q does not begin with a slash", name)
			}
		}
		if _, _, err := r.mode(); err != nil && !strings.HasPrefix(err.Error(), "r.toml") {
			t.Errorf("mode: %v", err)
		}
	})
}
