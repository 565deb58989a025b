package template

import (
	"errors"
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
	known := []string{"src", "dest", "keys", "prefix", "mode", "uid", "gid", "owner", "group", "check_cmd", "reload_cmd"}
	for _, key := range meta.Undecoded() {
		what, candidates := fmt.Sprintf("unknown key %q", key), []string{"template"}
		if len(key) == 2 && strings.EqualFold(key[0], "template") {
			what, candidates = fmt.Sprintf("unknown key %q in [template]", key[1]), known
		}
		wrong = append(wrong, fmt.Errorf("%s: %s%s", position(r.File, lineOf(r.text, key[len(key)-1])), what, hint(key[len(key)-1], candidates)))
	}
	if r.Dest == "" {
		wrong = append(wrong, r.wrong("dest", r.Dest, errors.New("want the path of a file")))
	}
	_, _, err = r.mode()
	_, _, ownersErr := r.owners()
	return append(wrong, slices.DeleteFunc([]error{err, ownersErr}, func(err error) bool { return err == nil })...)
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
