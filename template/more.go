package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	gotemplate "text/template"
	"unicode"
)

// maxRepeat is how long a text repeat may make: a number in the store must not
// take all the memory.
const maxRepeat = 64 << 20

// moreFuncs are the functions that the fork of confd added, with its order of
// arguments.
func moreFuncs() gotemplate.FuncMap {
	return gotemplate.FuncMap{
		"hostname":        os.Hostname,
		"lookupIfaceIPV4": func(name string) string { return interfaceIP(name, true) },
		"lookupIfaceIPV6": func(name string) string { return interfaceIP(name, false) },
		"default":         withDefault,
		"ternary":         ternary,
		"coalesce":        coalesce,
		"empty":           empty,
		"toJson":          toJSON,
		"toPrettyJson":    toPrettyJSON,
		"fromJson":        fromJSON,
		"indent":          indent,
		"nindent":         func(n int, s string) string { return "\n" + indent(n, s) },
		"quote":           func(s string) string { return fmt.Sprintf("%q", s) },
		"squote":          func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" },
		"regexMatch":      regexMatch,
		"regexFind":       regexFind,
		"regexReplaceAll": regexReplaceAll,
		"trimPrefix":      strings.TrimPrefix,
		"repeat":          repeat,
		"nospace":         nospace,
		"snakecase":       func(s string) string { return strings.Join(wordsOf(s), "_") },
		"kebabcase":       func(s string) string { return strings.Join(wordsOf(s), "-") },
		"camelcase":       camelcase,
		"dict":            newMap,
		"list":            func(values ...any) []any { return values },
		"hasKey":          hasKey,
		"keys":            func(m map[string]any) []string { return sorted(m) },
		"values":          values,
		"append":          appendTo,
		"pluck":           pluck,
		"sha256sum":       sha256sum,
	}
}

// interfaceIP is the first address of a network interface, "" without one.
func interfaceIP(name string, v4 bool) string {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return ""
	}
	addrs, err := nic.Addrs()
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && (n.IP.To4() != nil) == v4 {
			return n.IP.String()
		}
	}
	return ""
}

func withDefault(fallback, value any) any {
	if empty(value) {
		return fallback
	}
	return value
}

func ternary(yes, no any, which bool) any {
	if which {
		return yes
	}
	return no
}

func coalesce(values ...any) any {
	for _, v := range values {
		if !empty(v) {
			return v
		}
	}
	return nil
}

// empty says of nil, zero, false and what has no members that it is empty.
func empty(value any) bool {
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.String, reflect.Slice, reflect.Map, reflect.Array:
		return v.Len() == 0
	}
	return v.IsZero()
}

func toJSON(value any) (string, error) {
	text, err := json.Marshal(value)
	return string(text), err
}

func toPrettyJSON(value any) (string, error) {
	text, err := json.MarshalIndent(value, "", "  ")
	return string(text), err
}

func fromJSON(s string) (value any, err error) {
	err = json.Unmarshal([]byte(s), &value)
	return value, err
}

// indent puts n spaces before every line.
func indent(n int, s string) string {
	spaces := strings.Repeat(" ", max(0, n))
	return spaces + strings.ReplaceAll(s, "\n", "\n"+spaces)
}

// compile leaves the pattern out of its error: it may be a value of the store.
func compile(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(pattern)
	if e := (*syntax.Error)(nil); errors.As(err, &e) {
		return nil, fmt.Errorf("bad pattern: %s", e.Code)
	}
	return re, err
}

func regexMatch(pattern, s string) (bool, error) {
	re, err := compile(pattern)
	return err == nil && re.MatchString(s), err
}

func regexFind(pattern, s string) (string, error) {
	re, err := compile(pattern)
	if err != nil {
		return "", err
	}
	return re.FindString(s), nil
}

func regexReplaceAll(pattern, s, with string) (string, error) {
	re, err := compile(pattern)
	if err != nil {
		return "", err
	}
	return re.ReplaceAllString(s, with), nil
}

func repeat(n int, s string) (string, error) {
	if n < 0 || len(s) > 0 && n > maxRepeat/len(s) {
		return "", fmt.Errorf("repeat %d times: want 0 or more, and no longer text than %d bytes", n, maxRepeat)
	}
	return strings.Repeat(s, n), nil
}

func nospace(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

// wordsOf are the words of s in small letters. They end at underscores, dashes
// and spaces and begin at capitals; a row of capitals is one word up to the one
// that begins the next: HTTPServer is http, server.
func wordsOf(s string) (words []string) {
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '_' || r == '-' || unicode.IsSpace(r) }) {
		runes := []rune(part)
		begin := 0
		for i := 1; i < len(runes); i++ {
			next := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if unicode.IsUpper(runes[i]) && (!unicode.IsUpper(runes[i-1]) || next) {
				words = append(words, strings.ToLower(string(runes[begin:i])))
				begin = i
			}
		}
		words = append(words, strings.ToLower(string(runes[begin:])))
	}
	return words
}

func camelcase(s string) string {
	words := wordsOf(s)
	for i := range words {
		if i > 0 {
			r := []rune(words[i])
			r[0] = unicode.ToUpper(r[0])
			words[i] = string(r)
		}
	}
	return strings.Join(words, "")
}

func hasKey(m map[string]any, key string) bool {
	_, ok := m[key]
	return ok
}

func values(m map[string]any) []any {
	list := make([]any, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[key])
	}
	return list
}

// appendTo returns a new list: that of the caller stays as it is.
func appendTo(list, value any) ([]any, error) {
	v := reflect.ValueOf(list)
	if list != nil && v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return nil, fmt.Errorf("append to %T: want a list", list)
	}
	var all []any
	if list != nil {
		for i := range v.Len() {
			all = append(all, v.Index(i).Interface())
		}
	}
	return append(all, value), nil
}

func pluck(key string, from ...map[string]any) []any {
	list := make([]any, 0, len(from))
	for _, m := range from {
		if v, ok := m[key]; ok {
			list = append(list, v)
		}
	}
	return list
}

func sha256sum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
