package redis

import (
	"slices"
	"strings"

	"muster/backends"
)

// names is how keys are called in Redis.
type names struct {
	separator string // empty: as they are here
}

// raw is what the key name is called in Redis.
func (n names) raw(name string) string {
	if n.separator == "" {
		return name
	}
	return strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", n.separator)
}

// name is the key that Redis calls raw. Every name begins with a slash.
func (n names) name(raw string) string {
	if n.separator != "" {
		raw = "/" + strings.ReplaceAll(raw, n.separator, "/")
	}
	if !strings.HasPrefix(raw, "/") {
		return "/" + raw
	}
	return raw
}

// between is what stands between two levels.
func (n names) between() string {
	if n.separator == "" {
		return "/"
	}
	return n.separator
}

// A wanted is what a watch asks of Redis, in Redis's names.
type wanted struct {
	names    names
	prefixes []string // as they were asked for: they decide about fields

	whole bool            // a key that may not be read is an error, not left out
	all   bool            // of the database
	exact map[string]bool // keys that a prefix is, or that may be a hash with the rest of it as fields
	below []string        // what the keys below prefixes begin with
}

func (n names) wanted(prefixes []string) wanted {
	w := wanted{names: n, prefixes: prefixes, exact: make(map[string]bool)}
	for _, p := range prefixes {
		p = strings.TrimRight(p, "/")
		if p == "" {
			return wanted{names: n, prefixes: []string{""}, all: true}
		}
		below := n.raw(p) + n.between()
		if slices.Contains(w.below, below) {
			continue
		}
		w.below = append(w.below, below)
		for at := p; at != ""; at = at[:strings.LastIndexByte(at, '/')] {
			w.exact[n.raw(at)] = true
			if !strings.Contains(at[1:], "/") {
				break
			}
		}
	}
	return w
}

// wants reports whether name, a key or a field of one, is wanted.
func (w *wanted) wants(name string) bool { return backends.UnderAny(nil, w.prefixes, name) }

// patterns are what to scan for.
func (w *wanted) patterns() []string {
	if w.all {
		return []string{"*"}
	}
	patterns := make([]string, len(w.below))
	for i, below := range w.below {
		patterns[i] = literal(below) + "*"
	}
	return patterns
}

// literal is text as a glob that matches it and nothing else.
func literal(text string) string { return special.Replace(text) }

var special = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`)
