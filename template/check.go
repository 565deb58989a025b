package template

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	gotemplate "text/template"

	"github.com/BurntSushi/toml"

	"muster/internal/near"
)

// Check returns what is wrong with the resources below confdir and their
// templates, as far as it can be seen without a store: each error says file and
// line, and what may have been meant. files is how many were read.
func Check(confdir string) (files int, wrong []error) {
	paths, err := find(confdir)
	if err != nil {
		return 0, []error{err}
	}
	seen := make(map[string]bool) // templates, which several resources may share
	for _, path := range paths {
		files++
		r, err := ReadResource(path)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		wrong = append(wrong, r.check()...)
		src := r.template(confdir)
		if !seen[src] {
			seen[src] = true
			files++
			wrong = append(wrong, checkTemplate(r, src)...)
		}
	}
	return files, wrong
}

// check finds unknown keys, and values that no pass could use.
func (r *Resource) check() (wrong []error) {
	var file struct {
		Template Resource `toml:"template"`
	}
	meta, err := toml.Decode(r.text, &file)
	if err != nil {
		return []error{err} // it was read before
	}
	for _, key := range meta.Undecoded() {
		if len(key) > 1 && strings.EqualFold(key[0], "backend") {
			continue // said of the table
		}
		wrong = append(wrong, fmt.Errorf("%s: %s", position(r.File, lineOf(r.text, key[len(key)-1])), unknown(key)))
	}
	if r.Dest == "" {
		wrong = append(wrong, r.wrong("dest", r.Dest, errNoDest))
	}
	mode, _, err := r.mode()
	if err == nil && meantOctal.MatchString(r.Mode) {
		err = r.wrong("mode", r.Mode, fmt.Errorf("decimal, and so %#o: did you mean \"0%s\"?", mode, r.Mode))
	}
	_, _, ownersErr := r.owners()
	return append(wrong, slices.DeleteFunc([]error{err, ownersErr}, func(err error) bool { return err == nil })...)
}

// meantOctal is a mode that people write who forget that it is a number.
var meantOctal = regexp.MustCompile(`^[1-7][0-7]{2}$`)

// unknown says that a resource has no such key, and what to do instead.
func unknown(key toml.Key) string {
	word := key[len(key)-1]
	if len(key) == 2 && strings.EqualFold(key[0], "template") {
		what := fmt.Sprintf("unknown key %q in [template]", word)
		if instead, ok := forkKeys[strings.ToLower(word)]; ok {
			return what + ": " + instead
		}
		return what + hint(word, []string{"src", "dest", "keys", "prefix", "mode", "uid", "gid", "owner", "group", "check_cmd", "reload_cmd"})
	}
	if strings.EqualFold(key[0], "backend") {
		return fmt.Sprintf("unknown key %q: all resources have one store, as -backend says", key)
	}
	return fmt.Sprintf("unknown key %q", key) + hint(word, []string{"template"})
}

// forkKeys are keys that a fork of confd has in [template].
var forkKeys = map[string]string{
	"output_format":       "let check_cmd look at the text",
	"min_reload_interval": "reloads are a second apart",
	"debounce":            "-debounce is for all resources",
	"check_cmd_timeout":   "check_cmd is ended after 30 seconds",
	"reload_cmd_timeout":  "reload_cmd is ended after a minute",
}

// lineOf is where key is set or opened as a table, 0 where it isn't found.
func lineOf(text, key string) int {
	set := regexp.MustCompile(`(?i)^\s*(\[.*\b|[^=#]*\.\s*)?["']?` + regexp.QuoteMeta(key) + `["']?\s*[=\].]`)
	n := 0
	for line := range strings.Lines(text) {
		if n++; set.MatchString(line) {
			return n
		}
	}
	return 0
}

func hint(word string, candidates []string) string {
	if miss := near.Miss(word, candidates); miss != "" && miss != word {
		return fmt.Sprintf(" (did you mean %q?)", miss)
	}
	return ""
}

var (
	parseError = regexp.MustCompile(`(?s)^template: [^:]*:(\d+): (.*)$`)
	noFunction = regexp.MustCompile(`function "([^"]*)" not defined`)
)

// checkTemplate parses the template at src; text/template stops at the first
// error, but functions it doesn't know are found all.
func checkTemplate(r *Resource, src string) (wrong []error) {
	known := new(Engine).funcs(newTree())
	names := slices.Sorted(maps.Keys(known))
	for {
		_, err := gotemplate.New(filepath.Base(src)).Funcs(known).ParseFiles(src)
		if err == nil {
			return wrong
		}
		m := parseError.FindStringSubmatch(err.Error())
		if m == nil {
			return append(wrong, r.wrong("src", r.Src, err))
		}
		line, _ := strconv.Atoi(m[1])
		f := noFunction.FindStringSubmatch(m[2])
		if f == nil {
			return append(wrong, fmt.Errorf("%s: %s", position(src, line), m[2]))
		}
		wrong = append(wrong, fmt.Errorf("%s: %s%s", position(src, line), m[2], hint(f[1], names)))
		known[f[1]] = func(...any) string { return "" } // on to the next
	}
}
