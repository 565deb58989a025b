package template

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/BurntSushi/toml"
)

// TOMLError is err, which package toml returned for the file at path, with its
// line, its key and in words that are not Go's.
func TOMLError(path string, err error) *LoadError {
	var p toml.ParseError
	if errors.As(err, &p) {
		what := errors.New(p.Message)
		if p.Message == "" {
			what = errors.Unwrap(p)
		}
		return &LoadError{path, p.Position.Line, what}
	}
	m := wrongType.FindStringSubmatch(err.Error())
	if m == nil {
		return &LoadError{path, 0, err}
	}
	line, _ := strconv.Atoi(m[1]) // none: 0
	return &LoadError{path, line, fmt.Errorf("%s: got %s, want %s", m[2], inWords(m[3]+m[6]), inWords(m[4]+m[5]))}
}

// wrongType has the line, the key, and the types found and wanted, in either
// of two ways to say it.
var wrongType = regexp.MustCompile(`^toml: (?:line (\d+) )?\(last key "(.*)"\): ` +
	`(?:incompatible types: TOML value has type (\S+); destination has type (\S+)|type mismatch for \S+: expected (\S+) but found (\S+))$`)

// inWords says what a user would call a type.
func inWords(kind string) string {
	switch kind {
	case "string":
		return "text"
	case "integer", "int64":
		return "a whole number"
	case "float64":
		return "a fraction"
	case "bool":
		return "a boolean"
	case "boolean":
		return "true or false"
	case "time.Time":
		return "a date"
	case "[]any", "slice":
		return "a list"
	case "map[string]any", "table":
		return "a table"
	case "[]map[string]any":
		return "a list of tables"
	}
	return kind
}
