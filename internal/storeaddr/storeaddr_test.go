package storeaddr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for rawurl, want := range map[string]string{
		"a://h":                       `a "" "" [h] "" ""`,
		"a://u:p%40s@h:1,[::1]:2/x/y": `a "u" "p@s" [h:1 [::1]:2] "x/y" ""`,
		"a://:p@h/0?ca=F":             `a "" "p" [h] "0" "F"`,
		"a://u:p@q@h":                 `a "u" "p@q" [h] "" ""`,
	} {
		u, err := Parse(rawurl, "ca")
		if got := fmt.Sprintf("%s %q %q %v %q %q", u.Scheme, u.User, u.Password, u.Nodes, u.Path, u.Get("ca")); err != nil || got != want {
			t.Errorf("Parse(%q): got %s, %v, want %s", rawurl, got, err, want)
		}
	}
}

func TestParsePath(t *testing.T) {
	for rawurl, want := range map[string]string{
		"a:":         `a "" ""`,
		"a:b/c:d":    `a "b/c:d" ""`,
		"a:b?ca=F:G": `a "b" "F:G"`,
		"a?ca=F":     `a "" "F"`,
	} {
		u, err := ParsePath(rawurl, "ca")
		if got := fmt.Sprintf("%s %q %q", u.Scheme, u.Path, u.Get("ca")); err != nil || got != want {
			t.Errorf("ParsePath(%q): got %s, %v, want %s", rawurl, got, err, want)
		}
	}
	if _, err := ParsePath("a:?cb=x", "ca"); err == nil || !strings.Contains(err.Error(), `did you mean ca?`) {
		t.Errorf("an unknown parameter: got %v", err)
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	for rawurl, want := range map[string]string{
		"h:1":                  "want SCHEME://HOST:PORT",
		"a://u:hunter2%zz@h":   "%XX",
		"a://u:hunter2@h?cert": "parameter cert: want one value",
		"a://h?ca=x&ca=y":      "parameter ca: want one value",
		"a://h?crt=x":          "unknown parameter \"crt\" (did you mean cert?): want ca, cert",
		"a://h?%zz":            "invalid URL escape",
	} {
		_, err := Parse(rawurl, "ca", "cert")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Parse(%q) = %v, want an error with %q and without the password", rawurl, err, want)
		}
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for text, want := range map[string]string{"hunter2\n": "hunter2", "hunter2": "hunter2", "\n": ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := Parse("a://h?password=file:"+path, "password")
		if err != nil {
			t.Fatal(err)
		}
		got, err := u.Secret("password")
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	for _, value := range []string{"hunter2", "file:/no/such"} {
		u, err := Parse("a://h?password="+value, "password")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := u.Secret("password"); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("password=%s: got %q, want an error", value, got)
		}
	}
}

func TestHide(t *testing.T) {
	for rawurl, want := range map[string]string{
		"a://h":                              "a://h",
		"a://u:hunter2@h":                    "a://u:…@h",
		"a://h?password=hunter2&ca=x":        "a://h?password=…&ca=x",
		"a://h?ca=x&token=hunter2":           "a://h?ca=x&token=…",
		"a://h?other-password=f":             "a://h?other-password=…",
		"a://h?token=file:/t&key=k":          "a://h?token=file:/t&key=k",
		"a://u:hunter2@h?token=filehunter2x": "a://u:…@h?token=…",
	} {
		if got := Hide(rawurl); got != want {
			t.Errorf("Hide(%q): got %q, want %q", rawurl, got, want)
		}
	}
}

func TestHostPort(t *testing.T) {
	for node, want := range map[string]string{
		"h": "h:7", "h:1": "h:1", "::1": "[::1]:7", "[::1]": "[::1]:7", "[::1]:1": "[::1]:1",
		"": "", ":1": "", "h:0": "", "h:x": "", "h:99999": "", "a,b": "", "h/1": "", "a:b:c": "", "h h": "",
	} {
		got, err := HostPort(node, "7")
		if got != want || (err != nil) != (want == "") {
			t.Errorf("HostPort(%q): got %q, %v, want %q", node, got, err, want)
		}
	}
}

func TestReason(t *testing.T) {
	for err, want := range map[error]string{
		io.EOF:                   "connection closed",
		errors.New("EOF"):        "connection closed",
		io.ErrUnexpectedEOF:      "connection closed",
		context.DeadlineExceeded: "no answer in time",
		os.ErrDeadlineExceeded:   "no answer in time",
		errors.New("other"):      "other",
		&url.Error{Op: "Get", URL: "http://h/", Err: errors.New("refused")}: "refused",
	} {
		if got := Reason(err); got != want {
			t.Errorf("Reason(%v): got %q, want %q", err, got, want)
		}
	}
}

func TestTogether(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	if err := Together(nil, nil); err != nil {
		t.Errorf("of none: %v", err)
	}
	err := Together(a, nil, b)
	if err.Error() != "a; b" || !errors.Is(err, b) || slices.Contains([]error{a, b}, err) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"redis://:p@h:1/0?ca=x", "zk://a,b/c", "a://@", "a://u:%@h", "a://?=&"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rawurl string) {
		u, err := Parse(rawurl, "ca")
		if err != nil {
			return
		}
		for _, node := range u.Nodes {
			if addr, err := HostPort(node, "1"); err == nil && !strings.Contains(addr, ":") {
				t.Errorf("%q: node %q is %q", rawurl, node, addr)
			}
		}
	})
}
