package template

import (
	"strings"
	"testing"
	gotemplate "text/template"
)

// What the recordings of the original can't show, because ours is otherwise.
func TestFuncs(t *testing.T) {
	names := newTree()
	for name, value := range map[string]string{"/b": "1", "/a/x": "2", "/a/y": "3", "/c/d/e": "4", "/": "5"} {
		names.set(name, value)
	}
	engine := new(Engine)
	for source, want := range map[string]string{
		`{{join (ls "/") ","}}`:    "a,b,c",
		`{{join (lsdir "/") ","}}`: "a,c",
		`{{join (ls "/a") ","}}`:   "x,y",
		`{{$l := split "a,b,c" ","}}{{join (reverse $l) ","}} {{join $l ","}}`:         "c,b,a a,b,c",
		`{{range reverse (gets "/a/*")}}{{.Key}} {{end}}`:                              "/a/y /a/x ",
		`{{range sortKVByLength (gets "/*/*/*")}}{{.Key}}{{end}}`:                      "/c/d/e",
		`{{len (reverse 7 | printf "%d")}}`:                                            "1",
		`{{len (lookupIP "no such host.invalid")}}`:                                    "0",
		`{{lookupSRV "x" "tcp" "no such host.invalid" | len}}`:                         "0",
		`{{range lookupIPV4 "127.0.0.1"}}{{.}}{{end}}{{len (lookupIPV6 "127.0.0.1")}}`: "127.0.0.10",
		`{{datetime.Year | printf "%d" | len}}`:                                        "4",
	} {
		tmpl, err := gotemplate.New("t").Funcs(engine.funcs(names)).Parse(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		var got strings.Builder
		if err := tmpl.Execute(&got, nil); err != nil || got.String() != want {
			t.Errorf("%s: got %q, %v, want %q", source, got.String(), err, want)
		}
	}
}
