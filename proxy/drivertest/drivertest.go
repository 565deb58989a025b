package drivertest

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Start runs a proxy as config says, the text of a muster.toml with one
// listener and the service web, which gets every request. It returns the
// listener's address, and what stops the proxy and waits for its end.
type Start func(t testing.TB, config string) (addr string, stop func(), err error)

//go:embed testdata
var testdata embed.FS

// patience bounds what must happen; on a busy machine it takes a while. Of a row
// that is known not to hold nobody waits as long.
const (
	patience  = 60 * time.Second
	listedFor = 2 * time.Second
)

// enough failing variants of a case are shown.
const enough = 5

// Run holds the proxy of start to all cases. Those in notYet, by name with the
// reason, do not hold yet: they are skipped when they fail, and when one of them
// holds, that is an error, until it is struck off.
func Run(t *testing.T, start Start, notYet map[string]string) {
	cases := loadAll(t)
	for name := range notYet {
		if cases[name] == nil {
			t.Errorf("%s does not hold yet, says the list, but there is no such case", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		reason, listed := notYet[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := runAll(t, start, cases[name], listed)
			switch {
			case !listed && err != nil:
				t.Error(err)
			case listed && err == nil:
				t.Errorf("%s holds now: strike it off the list", name)
			case listed:
				t.Skipf("not yet: %s: %v", reason, err)
			}
		})
	}
}

// loadAll reads all cases: by name the variants of each.
func loadAll(t testing.TB) map[string][]script {
	t.Helper()
	files, err := fs.Sub(testdata, "testdata")
	if err != nil {
		t.Fatal(err)
	}
	texts, err := load(files)
	if err != nil {
		t.Fatal(err)
	}
	cases := make(map[string][]script)
	for name, text := range texts {
		if cases[name], err = parse(name, text); err != nil {
			t.Fatal(err)
		}
	}
	return cases
}

// runAll runs all variants of a case in all modes, and a listed one only until it
// fails.
func runAll(t testing.TB, start Start, scripts []script, listed bool) error {
	patience, enough := patience, enough
	if listed {
		patience, enough = listedFor, 1
	}
	var errs []error
	for i := range scripts {
		if len(errs) == enough {
			break
		}
		s := &scripts[i]
		for _, mode := range s.modes {
			if mode == "twice" && !s.doubles() {
				continue
			}
			if err := play(t, start, s, mode, patience, false); err != nil {
				errs = append(errs, fmt.Errorf("%s%s: %w", mode, s.variant, err))
				break // the other modes will say the same
			}
		}
	}
	return errors.Join(errs...)
}

// ReadNotYet reads a list of cases that do not hold yet: a line for each, its
// name, a space and the reason. Lines with # are comments.
func ReadNotYet(t testing.TB, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]string)
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		name, reason, _ := strings.Cut(line, " ")
		if list[name] != "" || reason == "" {
			t.Fatalf("%s:%d: %q: want a name and a reason, each name once", path, i+1, line)
		}
		list[name] = reason
	}
	return list
}
