package drivertest

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A script is one case, with the values of its variations filled in.
type script struct {
	name     string // folder/file
	variant  string // "" or the values, such as "BAD=\x00"
	modes    []string
	settings map[string][]string // table → lines
	steps    []step
}

// A step is one thing that happens on one connection.
type step struct {
	line int
	who  string // C, C2, O, …
	verb string // ">", "<", or a word
	text string // of > and <: bytes
	args []string
}

var (
	blockLine = regexp.MustCompile(`^([CO]\d*)([<>])(?: (.*))?$`)
	stepLine  = regexp.MustCompile(`^([CO]\d*) ([a-z]+)(?: (.*))?$`)
	varyLine  = regexp.MustCompile(`^vary ([A-Z]+): (.*)$`)
	setLine   = regexp.MustCompile(`^(listener|service|defaults) (.*)$`)
)

// verbs are the steps there are, and how many arguments they take at most.
var verbs = map[string]int{
	"fin": 0, "reset": 0, "close": 0, "pause": 0, "resume": 0, "end": 9, "nobody": 0, "tunnel": 0,
	"closed": 0, "broken": 0, "gone": 0, "cut": 0, "unfinished": 0, "discard": 0, "refused": 2, "answered": 3, "alive": 1, "ok": 1,
}

// load returns the text of every case below a folder, by name.
func load(files fs.FS) (map[string]string, error) {
	all := make(map[string]string)
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, p)
		all[strings.TrimSuffix(p, path.Ext(p))] = string(text)
		return err
	})
	return all, err
}

// parse reads a case: one script for each choice of the varied values.
func parse(name, text string) ([]script, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if !strings.HasPrefix(lines[0], "# ") {
		return nil, fmt.Errorf("%s:1: %q: want a comment that says what the case shows", name, lines[0])
	}
	values := make(map[string][]string)
	for _, line := range lines {
		if m := varyLine.FindStringSubmatch(line); m != nil {
			values[m[1]] = append(values[m[1]], strings.Split(m[2], " | ")...)
		}
	}
	all, err := expand(name, lines, values, slices.Sorted(maps.Keys(values)), nil)
	if err == nil && len(all[0].steps) == 0 {
		err = fmt.Errorf("%s: no steps", name)
	}
	return all, err
}

// expand fills in the values of names, each with each.
func expand(name string, lines []string, values map[string][]string, names []string, chosen [][2]string) ([]script, error) {
	if len(names) > 0 {
		var all []script
		for _, v := range values[names[0]] {
			some, err := expand(name, lines, values, names[1:], append(slices.Clone(chosen), [2]string{names[0], v}))
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		return all, nil
	}
	s := script{name: name, settings: make(map[string][]string), modes: []string{"plain", "bytes", "after", "twice"}}
	for _, c := range chosen {
		s.variant += fmt.Sprintf(" %s=%s", c[0], c[1])
	}
	open := false // the last step is a block that goes on
	for i, line := range lines {
		for _, c := range chosen {
			line = strings.ReplaceAll(line, "$"+c[0], c[1])
		}
		var err error
		if open, err = s.read(i+1, line, open); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	return []script{s}, nil
}

// read takes one line in. It reports whether a block is open behind it.
func (s *script) read(n int, line string, open bool) (bool, error) {
	if m := blockLine.FindStringSubmatch(line); m != nil {
		text, err := unescape(m[3])
		if err != nil {
			return false, err
		}
		if last := len(s.steps) - 1; open && s.steps[last].who == m[1] && s.steps[last].verb == m[2] {
			s.steps[last].text += text
		} else {
			s.steps = append(s.steps, step{line: n, who: m[1], verb: m[2], text: text})
		}
		return true, nil
	}
	switch {
	case line == "", line[0] == '#', varyLine.MatchString(line):
		return false, nil
	case strings.HasPrefix(line, "modes "):
		s.modes = strings.Fields(line)[1:]
		return false, nil
	}
	if m := setLine.FindStringSubmatch(line); m != nil {
		s.settings[m[1]] = append(s.settings[m[1]], m[2])
		return false, nil
	}
	m := stepLine.FindStringSubmatch(line)
	if m == nil {
		return false, fmt.Errorf("%q: want a setting, bytes or a step", line)
	}
	st := step{line: n, who: m[1], verb: m[2], args: strings.Fields(m[3])}
	if st.verb == "end" {
		st.args = nil
		if m[3] != "" {
			st.args = strings.Split(m[3], " | ")
		}
	}
	if most, ok := verbs[st.verb]; !ok || len(st.args) > most {
		return false, fmt.Errorf("%q: no such step", line)
	}
	s.steps = append(s.steps, st)
	return false, nil
}

// unescape turns a line of a case into bytes, with CRLF at its end unless a
// backslash stands there.
func unescape(line string) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(line, '\\')
		if i < 0 {
			b.WriteString(line)
			b.WriteString("\r\n")
			return b.String(), nil
		}
		b.WriteString(line[:i])
		line = line[i+1:]
		if line == "" {
			return b.String(), nil
		}
		used := 1
		switch line[0] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			c, err := strconv.ParseUint(line[1:min(3, len(line))], 16, 8)
			if err != nil || len(line) < 3 {
				return "", fmt.Errorf(`"\%s": want \xHH`, line)
			}
			b.WriteByte(byte(c))
			used = 3
		case '*':
			count, rest, ok1 := strings.Cut(line[1:], "{")
			text, _, ok2 := strings.Cut(rest, "}")
			n, err := strconv.Atoi(count)
			if !ok1 || !ok2 || err != nil {
				return "", fmt.Errorf(`"\%s": want \*N{TEXT}`, line)
			}
			part, err := unescape(text + `\`)
			if err != nil {
				return "", err
			}
			b.WriteString(strings.Repeat(part, n))
			used = 1 + len(count) + 1 + len(text) + 1
		default:
			return "", fmt.Errorf(`"\%s": no such escape`, line)
		}
		line = line[used:]
	}
}

// config is the muster.toml of the case.
func (s *script) config(vars map[string]string) string {
	endpoints := `endpoints = ["$ORIGIN"]`
	for _, line := range s.settings["service"] {
		if strings.HasPrefix(line, "endpoints") {
			endpoints = ""
		}
	}
	text := "[[listener]]\nbind = \"127.0.0.1:0\"\n" + strings.Join(s.settings["listener"], "\n") +
		"\n[defaults]\n" + strings.Join(s.settings["defaults"], "\n") +
		"\n[log]\naccess = \"off\"\n[service.web]\n" + endpoints + "\n" + strings.Join(s.settings["service"], "\n") + "\n"
	return fill(text, vars)
}

// fill puts addresses into text.
func fill(text string, vars map[string]string) string {
	for name, value := range vars {
		text = strings.ReplaceAll(text, "$"+name, value)
	}
	return text
}

// doubles reports whether the script can be run with two copies of its request
// in one write.
func (s *script) doubles() bool {
	last := len(s.steps) - 1
	if last < 1 || s.steps[0].who != "C" || s.steps[0].verb != ">" ||
		s.steps[last].who != "C" || s.steps[last].verb != "alive" || !slices.Equal(s.steps[last].args, []string{"O"}) {
		return false
	}
	for _, st := range s.steps[1:last] {
		switch st.who + st.verb {
		case "C<", "O<", "O>", "Cend", "Oend", "Cnobody", "Cok":
		default:
			return false
		}
	}
	return true
}
