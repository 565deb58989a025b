package file

import (
	"strings"
	"testing"

	"muster/backends/backendtest"
)

func TestFlatten(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"yaml 1.1 scalars", "x.yaml", "a: yes\nb: 0644\nc: 2.50\nd: 1e3\ne: ~\nf: 2021-03-04\ng: '0644'\n", "/a=true /b=420 /c=2.5 /d=1000 /f=2021-03-04 /g=0644"},
		{"keys that are no text", "x", "443: https\ny: 1\n~: 2\n", "/443=https /y=1 /~=2"},
		{"lists", "x", "l: [a, [b, {c: d}]]\n", "/l/0=a /l/1/0=b /l/1/1/c=d"},
		{"merge", "x", "b: &b {h: 1, p: 2}\nm: {p: 3, <<: *b}\n", "/b/h=1 /b/p=2 /m/h=1 /m/p=3"},
		{"slashes in a key", "x", "a/b: 1\n/c//d/: 2\n", "/a/b=1 /c/d=2"},
		{"json", "x.json", `{"a": {"b": [1, null, true, "x"]}}`, "/a/b/0=1 /a/b/2=true /a/b/3=x"},
		{"toml", "x.toml", "a = 1\nf = 2.50\nd = 1979-05-27T07:32:00Z\n[t]\nl = ['x', true]\n[[s]]\nn = 1\n[[s]]\nn = 2\n", "/a=1 /d=1979-05-27T07:32:00Z /f=2.5 /s/0/n=1 /s/1/n=2 /t/l/0=x /t/l/1=true"},
		{"nothing", "x", "# only a comment\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			values := make(map[string]string)
			if err := flatten(values, c.file, []byte(c.text)); err != nil {
				t.Fatal(err)
			}
			if got := backendtest.Text(values); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestFlattenSaysTheLine(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		a, b := string(rune('0'+i)), string(rune('1'+i))
		bomb += "a" + b + ": &a" + b + " [" + strings.Repeat("*a"+a+", ", 9) + "*a" + a + "]\n"
	}
	for _, c := range []struct{ name, file, text, want string }{
		{"yaml", "x.yaml", "a: 1\nb: [\n", "yaml: line 2"},
		{"json", "x.json", "{\"a\": 1,\n\"b\": [}\n", "json: line 1: did not find"},
		{"json list at the top", "x.json", "[1]\n", "json: line 1: the top is a list, want a map"},
		{"yaml list at the top", "x.yaml", "# x\n- a\n", "yaml: line 2: the top is a list, want a map"},
		{"yaml list as a key", "x.yaml", "a: 1\n? [b]\n: c\n", "yaml: line 2: a key is a list"},
		{"yaml merge of text", "x.yaml", "a: {<<: b}\n", `yaml: line 1: a merge of a scalar`},
		{"yaml binary", "x.yaml", "a: !!binary '%'\n", "yaml: line 1: !!binary"},
		{"yaml of billions", "x.yaml", bomb, "more than 1000000 values"},
		{"yaml that holds itself", "x.yaml", "a: &a [*a]\n", "yaml"},
		{"toml", "x.toml", "a = 1\nb = \n", "toml: line 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := flatten(make(map[string]string), c.file, []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func FuzzFlatten(f *testing.F) {
	for _, seed := range []string{
		"a: {b: [1, yes, ~, 0x1f]}", `{"a": 1e400}`, "a: &x [*x]", "<<: [{a: 1}, *b]", "? [a]\n: b",
		"a: !!binary eA==", "a: !!float x", "a = [1, {b = 2}]\n[[t]]\n", "- x", "---\n---\nb: 1", "a: -.inf",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"x.yaml", "x.toml"} {
			values := make(map[string]string)
			if flatten(values, name, []byte(text)) != nil {
				continue
			}
			for key := range values {
				if !strings.HasPrefix(key, "/") || strings.Contains(key, "//") {
					t.Errorf("%s %q: key %q", name, text, key)
				}
			}
		}
	})
}

// An error goes to the log, and what can't be read may be a password.
func TestErrorsHoldNoValues(t *testing.T) {
	for _, c := range []struct{ file, text string }{
		{"x.toml", "password = hunter2\n"},
		{"x.toml", "password = 0b1hunter2\n"},
		{"x.toml", "password = 1.5.hunter2\n"},
		{"x.toml", "password = 'hunter2\n"},
		{"x.toml", "password = \"hunter2\\q\"\n"},
		{"x.toml", "password = 0012\n"},
		{"x.yaml", "hunter2"},
		{"x.yaml", "<<: hunter2\n"},
		{"x.yaml", "password: [hunter2\n"},
		{"x.yaml", "password: \"hunter2\n"},
		{"x.json", `{"password": "hunter2`},
	} {
		err := flatten(make(map[string]string), c.file, []byte(c.text))
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "0012") {
			t.Errorf("%s %q: got %v, want an error without the value", c.file, c.text, err)
		}
	}
}
