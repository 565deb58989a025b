package template

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	gotemplate "text/template"
)

// maxIncludes is how deep files may include each other.
const maxIncludes = 10

// An includer is the function include of one template.
type includer struct {
	engine *Engine
	names  *tree
	chain  []string // the files that led here
}

// include executes a file of the folder templates, with the same functions and
// data as its dot, and returns the text. No path and no link leads out of the
// folder.
func (i *includer) include(file string, data ...any) (string, error) {
	name := filepath.Clean(file)
	for _, by := range i.chain {
		if by == name {
			return "", fmt.Errorf("include %q: it includes itself: %s", file, strings.Join(append(i.chain, name), ", "))
		}
	}
	if len(i.chain) >= maxIncludes {
		return "", fmt.Errorf("include %q: deeper than %d files", file, maxIncludes)
	}
	var dot any
	switch len(data) {
	case 0:
	case 1:
		dot = data[0]
	default:
		return "", fmt.Errorf("include %q: %d values, want one at most", file, len(data))
	}
	text, err := readBelow(filepath.Join(i.engine.Confdir, "templates"), name)
	if err != nil {
		return "", fmt.Errorf("include %q: %w", file, err)
	}
	inner := &includer{i.engine, i.names, append(i.chain[:len(i.chain):len(i.chain)], name)}
	f := i.engine.funcs(i.names)
	f["include"] = inner.include
	t, err := gotemplate.New(name).Funcs(f).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, dot); err != nil {
		return "", err
	}
	return b.String(), nil
}

// readBelow reads a file that lies in folder, wherever links lead.
func readBelow(folder, name string) (text string, err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	raw, err := root.ReadFile(name)
	return string(raw), err
}
