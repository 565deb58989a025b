package faults

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The table in README.md has a row for every fault, and names only tests that
// there are.
func TestTheTableIsRight(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for side, n := range map[string]int{"A": 28, "W": 22} {
		for i := range n {
			row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| ([AW]\d+ )*%s%d( [AW]\d+)* \|`, side, i+1))
			if !row.MatchString(text) {
				t.Errorf("no row for %s%d", side, i+1)
			}
		}
	}
	functions := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	there := make(map[string]bool)
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range functions.FindAllStringSubmatch(string(source), -1) {
			there[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(text, -1)
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("there is no %s", m[1])
		}
	}
	if len(named) < 60 {
		t.Errorf("only %d tests are named: want one or more in nearly each row", len(named))
	}
}
