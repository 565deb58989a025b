package file

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"go.yaml.in/yaml/v3"
)

// A file is outside input: an alias that names its own parent or the ninth
// power of a list is an error, not the end of the memory.
const (
	maxDepth  = 1000
	maxValues = 1_000_000
)

// flatten adds the scalars of the file called name to values: TOML where the
// name says so, else YAML, of which JSON is a part.
func flatten(values map[string]string, name string, text []byte) (err error) {
	t := tree{values: values}
	if filepath.Ext(name) == ".json" {
		defer func() {
			if err != nil { // in the words of the file, not of its reader
				err = errors.New(strings.Replace(err.Error(), "yaml: ", "json: ", 1))
			}
		}()
	}
	if filepath.Ext(name) == ".toml" {
		var top map[string]any
		if _, err := toml.Decode(string(text), &top); err != nil {
			return tomlError(err)
		}
		return t.toml("/", top, 0)
	}
	var doc yaml.Node
	err = yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc) // only the first document
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		return nil
	case err != nil:
		return err
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && kindOf(top) == null {
		return nil
	}
	if top.Kind != yaml.MappingNode {
		return wrong(top, "the top is %s, want a map", describe(top))
	}
	return t.yaml("/", top, 0)
}

// A tree collects the scalars of one file.
type tree struct {
	values map[string]string
	seen   int
}

func (t *tree) limit(depth int) error {
	if t.seen++; depth > maxDepth || t.seen > maxValues {
		return fmt.Errorf("yaml: deeper than %d levels or more than %d values", maxDepth, maxValues)
	}
	return nil
}

func (t *tree) toml(key string, value any, depth int) error {
	if err := t.limit(depth); err != nil {
		return err
	}
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if err := t.toml(path.Join(key, name), member, depth+1); err != nil {
				return err
			}
		}
	case []map[string]any:
		for i, member := range v {
			if err := t.toml(path.Join(key, strconv.Itoa(i)), member, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for i, member := range v {
			if err := t.toml(path.Join(key, strconv.Itoa(i)), member, depth+1); err != nil {
				return err
			}
		}
	case string:
		t.values[key] = v
	case float64:
		t.values[key] = formatFloat(v)
	case time.Time:
		t.values[key] = v.Format(time.RFC3339Nano)
	default: // int64, bool
		t.values[key] = fmt.Sprint(v)
	}
	return nil
}

func (t *tree) yaml(key string, n *yaml.Node, depth int) error {
	if err := t.limit(depth); err != nil {
		return err
	}
	switch n.Kind {
	case yaml.AliasNode:
		return t.yaml(key, n.Alias, depth+1)
	case yaml.SequenceNode:
		for i, member := range n.Content {
			if err := t.yaml(path.Join(key, strconv.Itoa(i)), member, depth+1); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		return t.mapping(key, n, depth)
	case yaml.ScalarNode:
		value, ok, err := scalar(n)
		if err != nil {
			return err
		}
		if ok {
			t.values[key] = value
		}
	}
	return nil
}

// mapping adds what is merged in first, so that the map's own members win. Of
// two members with one name the later wins, whole: it doesn't join the earlier.
func (t *tree) mapping(key string, n *yaml.Node, depth int) error {
	own := make(map[string]*yaml.Node, len(n.Content)/2)
	var names []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, member := n.Content[i], n.Content[i+1]
		if name.Kind == yaml.AliasNode {
			name = name.Alias
		}
		if name.Kind != yaml.ScalarNode {
			return wrong(name, "a key is %s, want a scalar", describe(name))
		}
		if name.Value == "<<" && name.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
			if err := t.merge(key, member, depth); err != nil {
				return err
			}
			continue
		}
		if own[name.Value] == nil {
			names = append(names, name.Value)
		}
		own[name.Value] = member
	}
	for _, name := range names {
		if err := t.yaml(path.Join(key, name), own[name], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// merge adds the map, or the maps of which an earlier one wins, that "<<" names.
func (t *tree) merge(key string, n *yaml.Node, depth int) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		return t.yaml(key, n, depth+1)
	case yaml.SequenceNode:
		for i := len(n.Content) - 1; i >= 0; i-- {
			if err := t.merge(key, n.Content[i], depth+1); err != nil {
				return err
			}
		}
		return t.limit(depth)
	}
	return wrong(n, "a merge of %s, want a map or maps", describe(n))
}

func wrong(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("yaml: line %d: %s", n.Line, fmt.Sprintf(format, args...))
}

// tomlError is err without the text that could not be read, which may be a
// secret.
func tomlError(err error) error {
	var p toml.ParseError
	if !errors.As(err, &p) || p.Message == "" {
		return err
	}
	return fmt.Errorf("toml: line %d (last key %q): %s", p.Position.Line, p.LastKey, quoted.ReplaceAllString(p.Message, "…"))
}

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']{2,}'`)

// describe says what n is, and not what it says: it may be a secret.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a scalar"
}

// A kind is what a scalar is by the rules of YAML 1.1, which confd follows and
// the library does not in everything: yes is true, 0644 is octal.
type kind int

const (
	str kind = iota
	null
	boolean
	integer
	unsigned // beyond int64: no value, as in confd
	float
	binary
)

// scalar is the value of n, or !ok where it has none.
func scalar(n *yaml.Node) (value string, ok bool, err error) {
	switch kindOf(n) {
	case null, unsigned:
		return "", false, nil
	case boolean:
		return strconv.FormatBool(truth[n.Value]), true, nil
	case integer:
		i, _ := parseInt(n.Value)
		return strconv.FormatInt(i, 10), true, nil
	case float:
		f, err := parseFloat(n.Value)
		if err != nil {
			return "", false, wrong(n, "what is tagged as a number is none")
		}
		return formatFloat(f), true, nil
	case binary:
		raw, err := base64.StdEncoding.DecodeString(n.Value)
		if err != nil {
			return "", false, wrong(n, "!!binary: %v", err)
		}
		return string(raw), true, nil
	}
	return n.Value, true, nil
}

func kindOf(n *yaml.Node) kind {
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if n.Style&yaml.TaggedStyle != 0 {
		switch n.ShortTag() {
		case "!!binary":
			return binary
		case "!!float":
			return float
		case "!!null", "!!bool", "!!int":
			plain = true
		default:
			plain = false
		}
	}
	if !plain {
		return str
	}
	return resolve(n.Value)
}

var (
	truth = map[string]bool{
		"y": true, "Y": true, "yes": true, "Yes": true, "YES": true,
		"true": true, "True": true, "TRUE": true, "on": true, "On": true, "ON": true,
		"n": false, "N": false, "no": false, "No": false, "NO": false,
		"false": false, "False": false, "FALSE": false, "off": false, "Off": false, "OFF": false,
	}
	special = map[string]float64{
		".nan": math.NaN(), ".NaN": math.NaN(), ".NAN": math.NaN(),
		".inf": math.Inf(1), ".Inf": math.Inf(1), ".INF": math.Inf(1),
		"+.inf": math.Inf(1), "+.Inf": math.Inf(1), "+.INF": math.Inf(1),
		"-.inf": math.Inf(-1), "-.Inf": math.Inf(-1), "-.INF": math.Inf(-1),
	}
	yamlFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
)

func resolve(s string) kind {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return null
	}
	if _, ok := truth[s]; ok {
		return boolean
	}
	if _, ok := special[s]; ok {
		return float
	}
	if !strings.ContainsRune("+-.0123456789", rune(s[0])) {
		return str
	}
	if _, err := parseInt(s); err == nil {
		return integer
	}
	bare := strings.ReplaceAll(s, "_", "")
	if _, err := strconv.ParseUint(bare, 0, 64); err == nil {
		return unsigned
	}
	if _, err := parseFloat(s); err == nil {
		return float
	}
	return str
}

func parseInt(s string) (int64, error) {
	return strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 0, 64)
}

func parseFloat(s string) (float64, error) {
	if f, ok := special[s]; ok {
		return f, nil
	}
	s = strings.ReplaceAll(s, "_", "")
	if !yamlFloat.MatchString(s) {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

// formatFloat writes f without an exponent, as short as it can be read back.
func formatFloat(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
