package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/confd"
	"muster/config"
	"muster/sidekick"
	"muster/template"
)

const checkHelp = `Reads muster.toml, the [[announce]] tables of sidekicks, confd.toml, and confd's
resources and templates, and says what is wrong with them, each with file and
line. It needs no store and changes nothing. Without flags it takes what is there
of the usual places. The exit code is 3 when something is wrong, and 4 when there
is nothing to check.`

// check is "muster check".
func check(_ context.Context, std cli.Std, args []string) int {
	f := cli.NewFlags("check", "[flags]", checkHelp)
	file := f.String("config", config.DefaultPath, "muster's `FILE`, or a folder of files for muster sidekick -config")
	confdir := f.String("confdir", "/etc/confd", "`DIR` of confd's conf.d and templates")
	confdFile := f.String("config-file", "", "confd's own `FILE` (default confd.toml in -confdir)")
	rest, command, code, ok := f.Parse(std, args)
	switch {
	case !ok:
		return code
	case len(rest)+len(command) > 0:
		return f.Wrong(std, "unexpected %q", strings.Join(append(rest, command...), " "))
	}
	// What is not named is checked only if nothing is, and if it is there.
	confdNamed := f.Given("confdir") || f.Given("config-file")
	named := f.Given("config") || confdNamed
	var c checker
	if f.Given("config") || !named && exists(*file) {
		c.muster(*file)
	}
	if !confdNamed && named {
		return c.report(std)
	}
	path := *confdFile
	if path == "" {
		path = filepath.Join(*confdir, "confd.toml")
	}
	must := f.Given("confdir")
	if f.Given("config-file") || exists(path) {
		dir, wrong := confd.Check(path)
		c.add(1, wrong...)
		if dir != "" && !must {
			*confdir, must = dir, true
		}
	}
	if must || exists(filepath.Join(*confdir, "conf.d")) {
		files, wrong := template.Check(*confdir)
		c.add(files, wrong...)
	}
	return c.report(std)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// split undoes errors.Join.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// A checker counts files and what is wrong with them.
type checker struct {
	files int
	wrong []error
}

func (c *checker) add(files int, wrong ...error) {
	c.files += files
	c.wrong = append(c.wrong, wrong...)
}

// muster checks what a proxy and a sidekick read.
func (c *checker) muster(path string) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		_, err := config.Load(path)
		if c.add(1, split(err)...); err != nil {
			return // the sidekick would say much of it again
		}
		c.files-- // counted below
	}
	host := func(_, _ string) (string, error) { return "127.0.0.1", nil } // another machine may run it
	files, err := sidekick.Load(path, sidekick.Config{}, host)
	c.add(0, split(err)...)
	for _, f := range files {
		c.add(1, split(f.Err)...)
	}
}

func (c *checker) report(std cli.Std) int {
	for _, err := range c.wrong {
		fmt.Fprintln(std.Err, err)
	}
	switch {
	case len(c.wrong) > 0:
		return cli.Invalid
	case c.files == 0:
		fmt.Fprintln(std.Err, "muster check: nothing to check: want -config, -confdir or -config-file")
		return cli.Nothing
	}
	fmt.Fprintf(std.Out, "%d files, nothing wrong\n", c.files)
	return cli.Done
}
