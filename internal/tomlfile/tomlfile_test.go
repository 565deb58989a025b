package tomlfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

type positive time.Duration

func (p *positive) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d <= 0 {
		return fmt.Errorf("%q: want more than nothing", text)
	}
	*p = positive(d)
	return nil
}

type example struct {
	Item []struct {
		Name        string
		StartPeriod positive `toml:"start-period"`
		Sub         struct{ Deep int }
	}
	Table map[string]struct{ Size int }
	Other Other
	Count Tables
}

func TestDecodeSaysWhatIsWrongAndWhere(t *testing.T) {
	for text, want := range map[string]string{
		"[[item]]\nname = \"a\"\nstart-period = \"1s\"":                           "",
		"[[item]]\n\nname = 1":                                                    `f.toml:3: item.name: incompatible types: TOML value has type int64; destination has type string`,
		"\n[[item]]\nstart-period = \"0s\"":                                       `f.toml:3: item.start-period: "0s": want more than nothing`,
		"[[item]\n":                                                               `f.toml:2: expected end of table array`,
		"[[item]]\nname = \"a\"\n[[item]]\nstart-peroid = \"1s\"":                 `f.toml:4: unknown key "start-peroid" in [item] (did you mean "start-period"?)`,
		"[[other]]\na.b = 1\n[[other]]\nc = 2\n[other.d]\ne = 1":                  "",
		"other = [{ a = 1 }]":                                                     "",
		"count = [{ a = 1 }, { b = 2 }]\n[counted]":                               `f.toml:2: unknown key "counted"`,
		"[count]\na = 1":                                                          `f.toml:1: count: want a table in double brackets`,
		"[[itme]]\nname = \"a\"":                                                  `f.toml:1: unknown key "itme" (did you mean "item"?)`,
		"[item.sub]\ndeep = 1":                                                    `f.toml:`,
		"[table.x]\nsize = 1\nseize = 2":                                          `f.toml:3: unknown key "seize" in [table.x] (did you mean "size"?)`,
		"[[item]]\nweight = 1\n[[item]]\nweight = 2 # weight = 3":                 "f.toml:2: unknown key \"weight\" in [item]\nf.toml:4: unknown key \"weight\" in [item]",
		"[[item]]\n[item.sub]\ndepe = 1":                                          `f.toml:3: unknown key "depe" in [item.sub] (did you mean "deep"?)`,
		"table = { x = { size = 1 } }\n[[item]]\nsub = { deep = 1, other = 2 }\n": `f.toml:3: unknown key "other" in [item.sub]`,
	} {
		var into example
		f, err := Decode("f.toml", text, &into)
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		default:
			var lines []string
			for _, err := range f.Unknown() {
				lines = append(lines, err.Error())
			}
			got = strings.Join(lines, "\n")
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("Decode(%q):\n got %q\nwant %q", text, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	var into example
	f, err := Decode("f.toml", "[[item]]\nname = \"a\"\n\n[[ item ]]\n[item.sub]\ndeep = 1\n[table.x]\nsize = 1\n", &into)
	if err != nil {
		t.Fatal(err)
	}
	got := []int{f.TableLine("item", 0), f.TableLine("item", 1), f.TableLine("item", 2), f.Line("item", "sub", "deep"), f.Line("table", "x"), f.Line("nothing")}
	if want := []int{1, 4, 1, 6, 7, 1}; !slices.Equal(got, want) {
		t.Errorf("lines: got %v, want %v", got, want)
	}
}

// A word that stands in two tables is found in the one that is meant.
func TestLineOfWordInTwoTables(t *testing.T) {
	type table struct {
		Timeout map[string]int
		Queue   map[string]int
	}
	f, err := Decode("f", "[a]\ntimeout.first = 1\nqueue.timeout = 2\n[b]\ntimeout = { first = 1 }\nqueue = { size = 1, timeout = 2 }\n[c.timeout]\nfirst = 1\n[c.queue]\ntimeout = 2\n", &struct{ A, B, C table }{})
	if err != nil {
		t.Fatal(err)
	}
	got := []int{
		f.Line("a", "timeout", "first"), f.Line("a", "queue", "timeout"), f.Line("b", "timeout", "first"), f.Line("b", "queue", "timeout"), f.Line("b", "queue"),
		f.Line("c", "timeout", "first"), f.Line("c", "queue", "timeout"),
	}
	if want := []int{2, 3, 5, 6, 6, 8, 10}; !slices.Equal(got, want) {
		t.Errorf("lines: got %v, want %v", got, want)
	}
}
