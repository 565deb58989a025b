package confd

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"muster/internal/near"
	"muster/template"
)

// Check returns what is wrong with the confd.toml at path: each error says file
// and line. confdir is the folder that it names, "" where it names none.
func Check(path string) (confdir string, wrong []error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", []error{err}
	}
	o := builtin()
	o.Confdir = ""
	meta, err := toml.Decode(string(text), &o)
	if err != nil {
		return "", []error{template.TOMLError(path, err)}
	}
	for _, key := range meta.Undecoded() {
		word := key[len(key)-1]
		what := fmt.Sprintf("unknown key %q", key)
		if miss := near.Miss(word, tomlKeys()); miss != "" && len(key) == 1 {
			what += fmt.Sprintf(" (did you mean %q?)", miss)
		}
		wrong = append(wrong, fmt.Errorf("%s: %s", line(path, string(text), word), what))
	}
	if _, err := parseLevel(o.LogLevel); err != nil {
		wrong = append(wrong, fmt.Errorf("%s: log-level: %w", line(path, string(text), "log-level"), err))
	}
	known := append(slices.Clone(forkBackends), "etcdv3", "rancher", "docker")
	if !slices.Contains(known, o.Backend) {
		what := fmt.Sprintf("unknown backend %q", o.Backend)
		if miss := near.Miss(o.Backend, known); miss != "" {
			what += fmt.Sprintf(" (did you mean %q?)", miss)
		}
		wrong = append(wrong, fmt.Errorf("%s: %s", line(path, string(text), "backend"), what))
	}
	return o.Confdir, wrong
}

// tomlKeys are the keys of confd.toml.
func tomlKeys() (keys []string) {
	t := reflect.TypeFor[options]()
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("toml"); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// line is path with the line on which key is set or opened as a table.
func line(path, text, key string) string {
	set := regexp.MustCompile(`(?i)^\s*(\[.*\b|[^=#]*\.\s*)?["']?` + regexp.QuoteMeta(key) + `["']?\s*[=\].]`)
	n := 0
	for l := range strings.Lines(text) {
		if n++; set.MatchString(l) {
			return fmt.Sprintf("%s:%d", path, n)
		}
	}
	return path
}
