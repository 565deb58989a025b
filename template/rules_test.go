package template_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"muster/template"
)

// Every rule that testdata/rules.txt lists is shown by something that is there,
// and every key of a resource has rules.
func TestEveryRuleIsShown(t *testing.T) {
	text, err := os.ReadFile("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t, ".", "../cmd/internal/confd")
	subjects := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndex(line, ": ")
		subject, _, ok := strings.Cut(line, ": ")
		if !ok || i == len(subject) {
			t.Errorf("%s: want SUBJECT: RULE: WHAT SHOWS IT", line)
			continue
		}
		for s := range strings.SplitSeq(subject, ", ") {
			subjects[s]++
		}
		for name := range strings.FieldsSeq(line[i+2:]) {
			if !tests[name] && !isFile(t, name) {
				t.Errorf("%s: there is no %s", line[:i], name)
			}
		}
	}
	keys := reflect.TypeFor[template.Resource]()
	for i := range keys.NumField() {
		if key := keys.Field(i).Tag.Get("toml"); key != "" && key != "-" && subjects[key] == 0 {
			t.Errorf("the key %s has no rule", key)
		}
	}
}

// isFile reports whether name is that of recordings or of a script.
func isFile(t *testing.T, name string) bool {
	pattern := "testdata/oracle/" + name + ".txtar"
	if script, ok := strings.CutPrefix(name, "script/"); ok {
		pattern = "../cmd/internal/confd/testdata/" + script + ".txtar"
	}
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return len(found) > 0
}

// testNames returns the tests of the packages in folders.
func testNames(t *testing.T, folders ...string) map[string]bool {
	names := make(map[string]bool)
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, folder := range folders {
		files, err := filepath.Glob(folder + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range test.FindAllStringSubmatch(string(text), -1) {
				names[m[1]] = true
			}
		}
	}
	return names
}
