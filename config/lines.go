package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"

	"muster/internal/near"
)

// tomlError says "file:line: key: what is wrong".
func tomlError(name string, err error) error {
	var p toml.ParseError
	if !errors.As(err, &p) {
		if m := wrongType.FindStringSubmatch(err.Error()); m != nil {
			return fmt.Errorf("%s:%s: %s: %s", name, m[1], m[2], m[3])
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	text := p.Message
	if text == "" {
		text = "wrong value"
		if inner := errors.Unwrap(p); inner != nil {
			text = inner.Error()
		}
	}
	if p.LastKey != "" {
		text = p.LastKey + ": " + text
	}
	return fmt.Errorf("%s:%d: %s", name, p.Position.Line, text)
}

// unknownKey is one error for every line on which the key stands.
func unknownKey(name, text string, key toml.Key) []error {
	table, word := key[:len(key)-1], key[len(key)-1]
	what := fmt.Sprintf("unknown key %q", word)
	if len(table) > 0 {
		what += fmt.Sprintf(" in [%s]", strings.Join(table, "."))
	}
	if miss := near.Miss(word, knownKeys(table)); miss != "" {
		what += fmt.Sprintf(" (did you mean %q?)", miss)
	}
	lines := linesOf(text, key)
	if len(lines) == 0 {
		return []error{fmt.Errorf("%s: %s", name, what)}
	}
	var all []error
	for _, n := range lines {
		all = append(all, fmt.Errorf("%s:%d: %s", name, n, what))
	}
	return all
}

// knownKeys are the names that a table may hold.
func knownKeys(table []string) (names []string) {
	t := reflect.TypeFor[tables]()
	for _, name := range table {
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			f, ok := t.FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, name) })
			if !ok {
				return nil
			}
			t = f.Type
		default:
			return nil
		}
	}
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		names = append(names, strings.ToLower(t.Field(i).Name))
	}
	return names
}

// wrongType is how the decoder says a value has the wrong type: only in words.
var wrongType = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]*)"\): (.*)$`)

var header = regexp.MustCompile(`^\s*\[\[?\s*([^\]]+?)\s*\]`)

// linesOf returns the lines on which key is set or opened as a table. The
// decoder keeps no position of a key that it does not know, so this looks for
// the word where it can stand: in a header, or before an equals sign below the
// header of one of its tables.
func linesOf(text string, key []string) (lines []int) {
	word := key[len(key)-1]
	set := regexp.MustCompile(`(^|[\s{,."'])` + regexp.QuoteMeta(word) + `["']?\s*(=|\.)`)
	path := strings.Join(key, ".")
	table := ""
	for i, line := range strings.Split(text, "\n") {
		line, _, _ := strings.Cut(line, "#")
		if m := header.FindStringSubmatch(line); m != nil {
			table = strings.NewReplacer(" ", "", `"`, "", "'", "").Replace(m[1])
			if table == path || strings.HasPrefix(table, path+".") {
				lines = append(lines, i+1)
			}
			continue
		}
		if (table == "" || table != path && strings.HasPrefix(path, table+".")) && set.MatchString(line) {
			lines = append(lines, i+1)
		}
	}
	return lines
}

// lineOf is the first of linesOf; 1 where there is none.
func lineOf(text string, key []string) int {
	if lines := linesOf(text, key); len(lines) > 0 {
		return lines[0]
	}
	return 1
}

// tableLine is the line of the nth [[name]] header, counted from zero; 1 where
// there is none (an inline array).
func tableLine(text, name string, n int) int {
	for i, line := range strings.Split(text, "\n") {
		m := header.FindStringSubmatch(line)
		if m == nil || m[1] != name || !strings.Contains(line, "[[") {
			continue
		}
		if n == 0 {
			return i + 1
		}
		n--
	}
	return 1
}
