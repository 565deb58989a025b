// Package cli holds what muster's commands have in common: flags that are also
// environment variables, exit codes, signals and the log. Only commands read
// flags and the environment, handle signals and exit; no package below them
// does.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"muster/internal/near"
)

// The exit codes of every command.
const (
	Done    = 0 // it did what was asked
	Failed  = 1 // a bad file, a port that is taken
	Usage   = 2 // a wrong flag or argument
	Invalid = 3 // check found errors
	Nothing = 4 // nothing matched
)

// Std is where a command reads, writes and looks up its environment.
type Std struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Program  string // what the usage line begins with; empty: muster and the subcommand
}

// OS is the process's own.
func OS() Std { return Std{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv} }

// Flags are a command's flags, by the rules of package flag: one dash or two.
// Each is also an environment variable, -stop-timeout MUSTER_STOP_TIMEOUT; a
// flag that is given wins over it. Flags may stand behind arguments, up to --.
type Flags struct {
	*flag.FlagSet
	// Program is what the user typed before the flags: "muster NAME".
	Program       string
	args, summary string
	given         map[string]bool
}

// NewFlags starts the flags of "muster NAME ARGS"; summary is the help text
// below the usage line.
func NewFlags(name, args, summary string) *Flags {
	f := &Flags{
		FlagSet: flag.NewFlagSet(name, flag.ContinueOnError),
		Program: "muster " + name, args: args, summary: summary, given: make(map[string]bool),
	}
	f.SetOutput(io.Discard)
	return f
}

// Given reports whether the flag was given on the command line or by the
// environment.
func (f *Flags) Given(name string) bool { return f.given[name] }

// Parse reads the environment, then args. Where it returns ok == false the
// command ends with code: help was asked for (0), or args are wrong (2) and the
// reason is on std.Err. command is what stood behind "--", nil without one.
func (f *Flags) Parse(std Std, args []string) (positional, command []string, code int, ok bool) {
	if i := slices.Index(args, "--"); i >= 0 {
		args, command = args[:i], args[i+1:]
	}
	err := f.environment(std.Getenv)
	for err == nil {
		if err = f.FlagSet.Parse(args); err != nil || f.NArg() == 0 {
			break
		}
		// flag stops at the first argument: keep it and go on behind it.
		positional = append(positional, f.Arg(0))
		args = f.Args()[1:]
	}
	f.Visit(func(fl *flag.Flag) { f.given[fl.Name] = true })
	switch {
	case err == nil:
		return positional, command, 0, true
	case errors.Is(err, flag.ErrHelp):
		f.Help(std.Out)
		return nil, nil, Done, false
	default:
		return nil, nil, f.Wrong(std, "%s", f.explain(err)), false
	}
}

// Wrong says what is wrong with the arguments and returns [Usage].
func (f *Flags) Wrong(std Std, format string, args ...any) int {
	fmt.Fprintf(std.Err, "%s: %s\nRun '%s -h' for its flags.\n", f.Program, fmt.Sprintf(format, args...), f.Program)
	return Usage
}

func (f *Flags) environment(getenv func(string) string) (err error) {
	f.VisitAll(func(fl *flag.Flag) {
		name := EnvName(fl.Name)
		value := getenv(name)
		if value == "" || err != nil {
			return
		}
		l, isList := fl.Value.(*list)
		values := []string{value}
		if isList {
			values = split(value)
		}
		for _, v := range values {
			if e := f.Set(fl.Name, v); e != nil && err == nil {
				err = fmt.Errorf("environment variable %s=%q: %w", name, value, e)
			}
		}
		// The command line replaces a list, it does not add to it.
		if isList {
			l.fresh = true
		}
	})
	return err
}

// split is what a list in the environment holds: its lines, or what stands
// between commas where it has one line only.
func split(list string) (values []string) {
	between := ","
	if strings.Contains(list, "\n") {
		between = "\n"
	}
	for v := range strings.SplitSeq(list, between) {
		if v = strings.TrimSpace(v); v != "" {
			values = append(values, v)
		}
	}
	return values
}

// EnvName is the environment variable of a flag.
func EnvName(flag string) string {
	return "MUSTER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// explain adds a near miss to package flag's "not defined".
func (f *Flags) explain(err error) string {
	text := err.Error()
	_, name, ok := strings.Cut(text, "flag provided but not defined: -")
	if !ok {
		return text
	}
	var names []string
	f.VisitAll(func(fl *flag.Flag) { names = append(names, fl.Name) })
	if miss := near.Miss(strings.TrimLeft(name, "-"), names); miss != "" {
		return fmt.Sprintf("unknown flag -%s (did you mean -%s?)", name, miss)
	}
	return "unknown flag -" + name
}

// Help writes the usage line, the summary and the flags with their defaults.
func (f *Flags) Help(w io.Writer) {
	fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("usage: %s %s", f.Program, f.args)))
	fmt.Fprintf(w, "\n%s\n\n", strings.TrimSpace(f.summary))
	f.VisitAll(func(fl *flag.Flag) {
		kind, text := flag.UnquoteUsage(fl)
		left := "-" + fl.Name
		if kind != "" {
			left += " " + kind
		}
		if fl.DefValue != "" && fl.DefValue != "false" && fl.DefValue != "0" && fl.DefValue != "0s" {
			text += " (default " + fl.DefValue + ")"
		}
		fmt.Fprintf(w, "  %-24s %s\n", left, strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 27)))
	})
	fmt.Fprintf(w, "\nEvery flag is also an environment variable: -stop-timeout is MUSTER_STOP_TIMEOUT.\n")
	lists := false
	f.VisitAll(func(fl *flag.Flag) {
		_, ok := fl.Value.(*list)
		lists = lists || ok
	})
	if lists {
		fmt.Fprintf(w, "There, several values are separated by commas, or stand on lines of their own.\n")
	}
}

// List defines a flag that may be given several times. What is given replaces
// the defaults.
func (f *Flags) List(name string, defaults []string, usage string) *[]string {
	l := &list{values: slices.Clone(defaults), fresh: true}
	f.Var(l, name, usage)
	return &l.values
}

// Values are what a flag holds: one value, or those of a [Flags.List].
func Values(f *flag.Flag) []string {
	if l, ok := f.Value.(*list); ok {
		return slices.Clone(l.values)
	}
	return []string{f.Value.String()}
}

type list struct {
	values []string
	fresh  bool // the next Set replaces
}

func (l *list) String() string { return strings.Join(l.values, ", ") }

func (l *list) Set(value string) error {
	if l.fresh {
		l.values, l.fresh = nil, false
	}
	l.values = append(l.values, value)
	return nil
}

// Log defines -log and returns the logger it asks for, once flags are parsed.
func (f *Flags) Log(std Std) func() *slog.Logger {
	var l level
	f.Var(&l, "log", "say what is of `LEVEL` debug, info, warn or error, and above")
	return func() *slog.Logger {
		return slog.New(slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: slog.Level(l), ReplaceAttr: shortTime}))
	}
}

// A level is slog's, in lower case. Zero is info.
type level slog.Level

func (l *level) String() string { return strings.ToLower(slog.Level(*l).String()) }

func (l *level) Set(text string) error {
	var s slog.Level
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, text) || s.UnmarshalText([]byte(text)) != nil {
		return errors.New("want debug, info, warn or error")
	}
	*l = level(s)
	return nil
}

func shortTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.String(slog.TimeKey, a.Value.Time().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	return a
}

// Signals returns a context that ends with the first SIGTERM or SIGINT. The
// second calls last and ends the process at once, with 128 + its number. stop
// undoes it.
func Signals(parent context.Context, last ...func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		select {
		case s := <-signals:
			for _, f := range last {
				f()
			}
			os.Exit(128 + int(s.(syscall.Signal)))
		case <-done:
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		wg.Wait()
		cancel()
	}
}
