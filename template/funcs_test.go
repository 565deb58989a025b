package template

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	gotemplate "text/template"
)

// A row is a template and what it prints, or a part of its error.
type row struct{ source, want, err string }

// The functions of the original. The recordings in testdata/oracle hold more of
// each; here stands what is ours, and an edge or two of all.
var originalRows = []row{
	{`{{get "/b"}} {{(get "/b").Value}}`, "{/b 1} 1", ""},
	{`{{get "/a"}}`, "", "key does not exist: /a"},
	{`{{getv "/b"}}{{getv "/none" "d" "e"}}{{getv "/none" ""}}{{getv "/empty" "d"}}`, "1d", ""},
	{`{{getv "b"}}`, "", "key does not exist: b"},
	{`{{exists "/a/x"}} {{exists "/a"}} {{exists "/a/x/"}} {{exists "a/x"}}`, "true false false false", ""},
	{`{{range gets "/a/*"}}{{.Key}}={{.Value}} {{end}}`, "/a/x=3 /a/y=2 ", ""},
	{`{{len (gets "/none/*")}}`, "0", ""},
	{`{{gets "/a/["}}`, "", "syntax error in pattern"},
	{`{{getvs "/a/*"}} {{getvs "/*/*"}} {{getvs "/[ab]*"}}`, "[2 3] [2 3] [1]", ""}, // by value
	{`{{join (ls "/") ","}} {{join (ls "/a/") ","}} {{ls "/b"}} {{ls "/b/"}} {{ls "a"}}`, "a,b,c,empty x,y [b] [] []", ""},
	{`{{join (lsdir "/") ","}} {{lsdir "/c"}} {{lsdir "/a"}}`, "a,c [d] []", ""},
	{`{{base "/a/b"}} {{base ""}} {{dir "/a/b"}} {{dir ""}}`, "b . /a .", ""},
	{`{{len (split "" ",")}} {{index (split "a,b" ",") 1}}`, "1 b", ""},
	{`{{join (split "a,b" ",") "-"}}`, "a-b", ""},
	{`{{join (jsonArray "[1]") ","}}`, "", "wrong type for value"},
	{`{{toUpper "é1"}} {{toLower "ÄB"}} {{contains "abc" ""}} {{trimSuffix "a.b.b" ".b"}}`, "É1 äb true a.b", ""},
	{`{{replace "aaa" "a" "b" 2}} {{replace "aaa" "a" "b" -1}}`, "bba bbb", ""},
	{`{{(json "{\"n\": 20000000000}").n}} {{len (json "null")}}{{(json "{}").a.b}}`, "2e+10 0<no value>", ""},
	{`{{json "[1]"}}`, "", "cannot unmarshal array"},
	{`{{index (jsonArray "[1, \"x\"]") 1}} {{len (jsonArray "null")}}`, "x 0", ""},
	{`{{jsonArray "{}"}}`, "", "cannot unmarshal object"},
	{`{{(map "a" 1).a}}{{len (map)}}`, "10", ""},
	{`{{map "a"}}`, "", "invalid map call"},
	{`{{map 1 2}}`, "", "map keys must be strings"},
	{`{{getenv "MUSTER_TEST_SET"}} {{getenv "MUSTER_TEST_EMPTY" "d"}} {{getenv "MUSTER_TEST_EMPTY"}}`, "v d ", ""},
	{`{{datetime.Year | printf "%d" | len}}`, "4", ""},
	{`{{lookupIP "no such host.invalid" | len}} {{lookupIP "::1"}}`, "0 [::1]", ""},
	{`{{lookupIPV4 "127.0.0.1"}} {{lookupIPV6 "127.0.0.1"}} {{lookupIPV6 "::1"}} {{lookupIPV4 "::1"}}`, "[127.0.0.1] [] [::1] []", ""},
	{`{{lookupSRV "x" "tcp" "no such host.invalid" | len}}`, "0", ""},
	{`{{fileExists "/dev/null"}} {{fileExists ""}} {{fileExists "/none/x"}}`, "true false false", ""},
	{`{{base64Encode "a?>"}} {{base64Decode "YT8+"}}`, "YT8+ a?>", ""},
	{`{{base64Decode "YQ"}}`, "", "illegal base64"},
	{`{{parseBool "T"}} {{parseBool "0"}}`, "true false", ""},
	{`{{parseBool "yes"}}`, "", "strconv.ParseBool: invalid syntax"},
	{`{{$l := split "a,b,c" ","}}{{reverse $l}} {{$l}}`, "[c b a] [a b c]", ""}, // a copy
	{`{{range reverse (gets "/a/*")}}{{.Key}} {{end}}{{reverse 7}}`, "/a/y /a/x 7", ""},
	{`{{sortByLength (split "ccc,a,bb,b" ",")}}`, "[a b bb ccc]", ""},
	{`{{range reverse (sortKVByLength (gets "/[ace]*"))}}{{.Key}} {{end}}`, "/empty ", ""},
	{`{{add 1 2}} {{sub 1 2}} {{mul 3 -2}} {{div -7 2}} {{mod -7 2}}`, "3 -1 -6 -3 -1", ""},
	{`{{div 1 0}}`, "", "integer divide by zero"},
	{`{{mod 1 0}}`, "", "integer divide by zero"},
	{`{{add 1 1.5}}`, "", "expected integer"},
	{`{{seq 2 4}} {{seq 2 2}} {{seq 3 2}}`, "[2 3 4] [2] []", ""},
	{`{{atoi "-7"}}`, "-7", ""},
	{`{{atoi " 7"}}`, "", "strconv.Atoi: invalid syntax"},
	{`{{atoi ""}}`, "", "strconv.Atoi: invalid syntax"},
}

// The functions of the fork.
var forkRows = []row{
	{`{{hostname | len | lt 0}}`, "true", ""},
	{`{{lookupIfaceIPV4 "lo"}} {{lookupIfaceIPV4 "none"}}{{lookupIfaceIPV6 "none"}}`, "127.0.0.1 ", ""},
	{`{{default "d" ""}} {{default "d" "v"}} {{default 1 0}} {{default "d" .x}}`, "d v 1 d", ""},
	{`{{ternary "y" "n" true}} {{exists "/none" | ternary "y" "n"}}`, "y n", ""},
	{`{{coalesce "" 0 "c" "d"}}{{coalesce}}`, "c<no value>", ""},
	{`{{empty 0}} {{empty 0.0}} {{empty ""}} {{empty false}} {{empty (list)}} {{empty (dict)}} {{empty .x}} {{empty "0"}} {{empty (list 0)}}`, "true true true true true true true false false", ""},
	{`{{toJson (dict "b" 1 "a" (list "x" true))}} {{toJson "é\""}}`, `{"a":["x",true],"b":1} "é\""`, ""},
	{`{{toPrettyJson (dict "a" (list 1))}}`, "{\n  \"a\": [\n    1\n  ]\n}", ""},
	{`{{(fromJson "{\"a\": [1, 2]}").a}} {{fromJson "7"}} {{fromJson "null"}}`, "[1 2] 7 <no value>", ""},
	{`{{fromJson "{"}}`, "", "unexpected end of JSON"},
	{`{{indent 2 "a\n\nb"}}`, "  a\n  \n  b", ""},
	{`x:{{nindent 1 "a\nb"}}`, "x:\n a\n b", ""},
	{`{{quote "a\"b\n"}} {{squote "it's"}}`, `"a\"b\n" 'it''s'`, ""},
	{`{{regexMatch "^a+$" "aa"}} {{regexMatch "^a+$" "ab"}}`, "true false", ""},
	{`{{regexMatch "s3cret(" "x"}}`, "", "bad pattern: missing closing )"},
	{`{{regexFind "[0-9]+" "a12b3"}} {{regexFind "z" "a"}}`, "12 ", ""},
	{`{{regexFind "[" ""}}`, "", "bad pattern"},
	{`{{regexReplaceAll "a(.)" "ab ac" "$1"}}`, "b c", ""},
	{`{{regexReplaceAll "[" "" ""}}`, "", "bad pattern"},
	{`{{trimPrefix "/a/b" "/a"}}`, "/b", ""},
	{`{{repeat 3 "ab"}}{{repeat 0 "x"}}`, "ababab", ""},
	{`{{repeat -1 "x"}}`, "", "want 0 or more"},
	{`{{repeat 9000000000 "xxxxxxxx"}}`, "", "no longer text"},
	{`{{nospace " a\tb\n c "}}`, "abc", ""},
	{`{{snakecase "HTTPServer"}} {{snakecase "one-two three_four"}} {{snakecase "aB1C"}} {{snakecase ""}}`, "http_server one_two_three_four a_b1_c ", ""},
	{`{{camelcase "HTTPServer-name"}} {{camelcase "a_élan"}}`, "httpServerName aÉlan", ""},
	{`{{kebabcase "fooBar Baz"}}`, "foo-bar-baz", ""},
	{`{{dict "a"}}`, "", "invalid map call"},
	{`{{list 1 "a"}} {{list}}`, "[1 a] []", ""},
	{`{{hasKey (dict "a" 0) "a"}} {{hasKey (json "{}") "a"}}`, "true false", ""},
	{`{{keys (dict "b" 1 "a" 2)}} {{values (dict "b" 1 "a" 2)}}`, "[a b] [2 1]", ""},
	{`{{$l := list 1}}{{append $l 2}} {{$l}} {{append (split "a" ",") "b"}} {{append .x 1}}`, "[1 2] [1] [a b] [1]", ""},
	{`{{append "text" 1}}`, "", "append to string: want a list"},
	{`{{pluck "a" (dict "a" 1) (dict "b" 2) (dict "a" 3)}}`, "[1 3]", ""},
	{`{{sha256sum ""}}`, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", ""},
	{`{{include "part" 7}} {{include "sub/part" "x"}} {{include "bare"}}`, "[7] sub x 1 <no value>", ""},
	{`{{include "../secret"}}`, "", "path escapes"},
	{`{{include "/etc/passwd"}}`, "", "path escapes"},
	{`{{include "link"}}`, "", "path escapes"},
	{`{{include "none"}}`, "", "no such file"},
	{`{{include "part" 1 2}}`, "", "2 values, want one at most"},
	{`{{include "a"}}`, "", "it includes itself: a, b, a"},
	{`{{include "deep" 1}}`, "", "it includes itself: deep, deep"},
	{`{{include "d0"}}`, "", `include "d10": deeper than 10 files`},
	{`{{include "broken"}}`, "", "broken:1: unclosed action"},
}

func TestFuncs(t *testing.T) {
	t.Setenv("MUSTER_TEST_SET", "v")
	t.Setenv("MUSTER_TEST_EMPTY", "")
	dir := t.TempDir()
	files := map[string]string{
		"secret": "outside", "templates/part": `[{{.}}]`, "templates/sub/part": `sub {{.}}`, "templates/bare": `{{getv "/b"}} {{.}}`,
		"templates/a": `{{include "b"}}`, "templates/b": `{{include "a"}}`, "templates/deep": `{{include "deep" .}}`, "templates/broken": `{{`,
	}
	for i := range 12 {
		name := func(n int) string { return "d" + string(rune('0' + n/10))[:min(1, n/10)] + string(rune('0'+n%10)) }
		files["templates/"+name(i)] = `{{include "` + name(i+1) + `"}}`
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret", filepath.Join(dir, "templates/link")); err != nil {
		t.Fatal(err)
	}
	names := newTree()
	for name, value := range map[string]string{"/b": "1", "/a/x": "3", "/a/y": "2", "/c/d/e": "4", "/": "5", "/empty": ""} {
		names.set(name, value)
	}
	engine := &Engine{Config: Config{Confdir: dir}}
	for _, r := range slices.Concat(originalRows, forkRows) {
		tmpl, err := gotemplate.New("t").Funcs(engine.funcs(names)).Parse(r.source)
		var got strings.Builder
		if err == nil {
			err = tmpl.Execute(&got, map[string]any{})
		}
		switch {
		case r.err == "" && (err != nil || got.String() != r.want):
			t.Errorf("%s: got %q, %v, want %q", r.source, got.String(), err, r.want)
		case r.err != "" && (err == nil || !strings.Contains(err.Error(), r.err)):
			t.Errorf("%s: got %q, %v, want an error with %q", r.source, got.String(), err, r.err)
		}
		if r.err != "" && err != nil && strings.Contains(err.Error(), "calling regexMatch") && strings.Count(err.Error(), "s3cret") > 1 {
			t.Errorf("%s: the value is in the error: %v", r.source, err)
		}
	}
}

// No function without a row, and none of the original without recordings.
func TestEveryFuncHasARow(t *testing.T) {
	word := regexp.MustCompile(`[a-zA-Z0-9]+`)
	tested := make(map[string]bool)
	for _, r := range slices.Concat(originalRows, forkRows) {
		for _, w := range word.FindAllString(r.source, -1) {
			tested[w] = true
		}
	}
	rules, err := os.ReadFile("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	fork := moreFuncs()
	fork["include"] = nil
	for _, name := range slices.Sorted(maps.Keys(new(Engine).funcs(newTree()))) {
		if !tested[name] {
			t.Errorf("no row has %s", name)
		}
		if _, isFork := fork[name]; !isFork && !strings.Contains(string(rules), "\nfunc "+name+": ") {
			t.Errorf("testdata/rules.txt says nothing of the function %s", name)
		}
	}
}

// The fork's functions replace none of the original's, nor text/template's own.
func TestForkAddsOnly(t *testing.T) {
	const original = "get getv exists gets getvs ls lsdir base dir split join toUpper toLower contains replace trimSuffix json jsonArray " +
		"map getenv datetime lookupIP lookupIPV4 lookupIPV6 lookupSRV fileExists base64Encode base64Decode parseBool reverse " +
		"sortByLength sortKVByLength add sub mul div mod seq atoi " +
		"and break call continue define else end eq ge gt html if index js le len lt ne not or print printf println range slice template urlquery with"
	fork := moreFuncs()
	fork["include"] = nil
	for name := range strings.FieldsSeq(original) {
		if _, ok := fork[name]; ok {
			t.Errorf("%s is the original's", name)
		}
	}
}
