// Package tomlfile reads a TOML file into a struct, and says of everything that
// is wrong with it where it stands and, of a key that is not known, which one may
// have been meant.
package tomlfile

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"muster/internal/near"
)

// A File is one that was decoded.
type File struct {
	name, text string
	unknown    []error
}

// Decode reads text into the struct that into points to; name stands in the
// errors. An error means that it is no TOML or has a value that does not fit.
func Decode(name, text string, into any) (*File, error) {
	meta, err := toml.Decode(text, into)
	if err != nil {
		return nil, tomlError(name, err)
	}
	f := &File{name: name, text: text}
	root := reflect.TypeOf(into).Elem()
	var seen []string
	for _, key := range meta.Undecoded() {
		// A key of several tables of an array comes once for each.
		if path := key.String(); !slices.Contains(seen, path) && !isOther(root, key) {
			seen = append(seen, path)
			f.unknown = append(f.unknown, f.unknownKey(key, root)...)
		}
	}
	return f, nil
}

// An Other is a table, or several of one name, that somebody else reads.
type Other struct{}

// UnmarshalTOML leaves it unread.
func (*Other) UnmarshalTOML(any) error { return nil }

// Tables is how many tables there are of one name, that somebody else reads.
type Tables int

// UnmarshalTOML counts them.
func (n *Tables) UnmarshalTOML(data any) error {
	switch tables := data.(type) {
	case []map[string]any:
		*n = Tables(len(tables))
	case []any: // an inline array
		*n = Tables(len(tables))
	default:
		return errors.New("want a table in double brackets, as in [[name]], once or more")
	}
	return nil
}

// isOther reports whether key is below a field of t that somebody else reads.
func isOther(t reflect.Type, key []string) bool {
	for _, name := range key {
		if t == reflect.TypeFor[Other]() || t == reflect.TypeFor[Tables]() {
			return true
		}
		f, ok := fieldOf(t, name)
		if !ok {
			return false
		}
		t = f.Type
	}
	return false
}

// Unknown is an error for every key that the struct has no field for.
func (f *File) Unknown() []error { return f.unknown }

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

// unknownKey is one error for every line on which the key stands, in a file for
// a root.
func (f *File) unknownKey(key toml.Key, root reflect.Type) []error {
	table, word := key[:len(key)-1], key[len(key)-1]
	what := fmt.Sprintf("unknown key %q", word)
	if len(table) > 0 {
		what += fmt.Sprintf(" in [%s]", strings.Join(table, "."))
	}
	if miss := near.Miss(word, knownKeys(root, table)); miss != "" {
		what += fmt.Sprintf(" (did you mean %q?)", miss)
	}
	lines := linesOf(f.text, key)
	if len(lines) == 0 {
		return []error{fmt.Errorf("%s: %s", f.name, what)}
	}
	var all []error
	for _, n := range lines {
		all = append(all, fmt.Errorf("%s:%d: %s", f.name, n, what))
	}
	return all
}

// knownKeys are the names that a table of a file for t may hold.
func knownKeys(t reflect.Type, table []string) (names []string) {
	for _, name := range table {
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			f, ok := fieldOf(t, name)
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
	for _, f := range keysOf(t) {
		names = append(names, keyOf(f))
	}
	return names
}

// keyOf is the key of a field.
func keyOf(f reflect.StructField) string {
	if key := f.Tag.Get("toml"); key != "" {
		return key
	}
	return strings.ToLower(f.Name)
}

// fieldOf is the field of key, if t is a struct.
func fieldOf(t reflect.Type, key string) (f reflect.StructField, ok bool) {
	if t.Kind() != reflect.Struct {
		return f, false
	}
	for _, f := range keysOf(t) {
		if strings.EqualFold(keyOf(f), key) {
			return f, true
		}
	}
	return f, false
}

// keysOf are the fields of a struct that stand for a key, those of embedded
// structs too.
func keysOf(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Anonymous })
}

// wrongType is how the decoder says a value has the wrong type: only in words.
var wrongType = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]*)"\): (.*)$`)

var header = regexp.MustCompile(`^\s*\[\[?\s*([^\]]+?)\s*\]`)

// tableName is the name in a header that was found.
func tableName(found []string) string {
	return strings.NewReplacer(" ", "", `"`, "", "'", "").Replace(found[1])
}

// linesOf returns the lines on which key is set or opened as a table. The
// decoder keeps no position of a key that it does not know, so this looks for
// the word where it can stand: in a header, or before an equals sign below the
// header of one of its tables. A line that names the tables between too, as in
// queue.timeout or queue = { timeout, is the one that is meant.
func linesOf(text string, key []string) (lines []int) {
	path := strings.Join(key, ".")
	table := ""
	whole, last := written(key), written(key[len(key)-1:])
	var words []int // where the last word stands, whatever is before it
	for i, line := range strings.Split(text, "\n") {
		line, _, _ := strings.Cut(line, "#")
		if m := header.FindStringSubmatch(line); m != nil {
			table = tableName(m)
			if table == path || strings.HasPrefix(table, path+".") {
				lines = append(lines, i+1)
			}
			if strings.HasPrefix(path, table+".") {
				whole = written(key[strings.Count(table, ".")+1:])
			}
			continue
		}
		if table != "" && (table == path || !strings.HasPrefix(path, table+".")) {
			continue
		}
		if whole.MatchString(line) {
			lines = append(lines, i+1)
		} else if last.MatchString(line) {
			words = append(words, i+1)
		}
	}
	if len(lines) == 0 {
		return words
	}
	return lines
}

// written matches a line that sets a key, of which the words may be dotted or
// stand in one another's inline table.
func written(key []string) *regexp.Regexp {
	text := `(^|[\s{,."'])`
	for i, word := range key {
		if i > 0 {
			text += `(\.\s*["']?|=(.*[\s{,."'])?)`
		}
		text += regexp.QuoteMeta(word) + `["']?\s*`
	}
	return regexp.MustCompile(text + `(=|\.)`)
}

// Line is the first line on which key is set or opened as a table; 1 where there
// is none.
func (f *File) Line(key ...string) int {
	if lines := linesOf(f.text, key); len(lines) > 0 {
		return lines[0]
	}
	return 1
}

// TableLine is the line of the nth [[name]] header, counted from zero; 1 where
// there is none (an inline array).
func (f *File) TableLine(name string, n int) int {
	for i, line := range strings.Split(f.text, "\n") {
		m := header.FindStringSubmatch(line)
		if m == nil || tableName(m) != name || !strings.Contains(line, "[[") {
			continue
		}
		if n == 0 {
			return i + 1
		}
		n--
	}
	return 1
}
