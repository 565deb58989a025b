package confd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	gotemplate "text/template"

	"muster/template"
)

// report says what happened to a resource in the words of the original, which
// scripts read.
func report(log *slog.Logger, ev template.Event) {
	var dest string
	if ev.Resource != nil {
		dest = ev.Resource.Dest
	}
	switch ev.What {
	case template.Loading:
		log.Debug("Loading template resources from confdir " + ev.Path)
	case template.Found:
		log.Debug("Found template: " + ev.Path)
		log.Debug("Loading template resource from " + ev.Path)
	case template.Empty:
		log.Warn(words(ev.Err))
	case template.Reading:
		log.Debug("Retrieving keys from store")
		log.Debug("Key prefix set to " + ev.Text)
	case template.StoreFailed, template.Uncomparable:
		log.Error(ev.Err.Error())
	case template.Rendering:
		log.Debug("Using source template " + ev.Path)
		log.Debug("Compiling source template " + ev.Path)
	case template.Kept:
		log.Info("Keeping staged file: " + ev.Path)
	case template.Comparing:
		log.Debug("Comparing candidate config to " + dest)
	case template.Differs:
		log.Info(fmt.Sprintf("%s has %s %s should be %s", dest, ev.Field, ev.Have, ev.Want))
	case template.Spared:
		log.Warn("Noop mode enabled. " + dest + " will not be modified")
	case template.InSync:
		log.Debug("Target config " + dest + " in sync")
	case template.OutOfSync:
		log.Info("Target config " + dest + " out of sync")
	case template.Running:
		log.Debug("Running " + ev.Text)
	case template.Ran:
		log.Debug(strconv.Quote(ev.Text))
	case template.Replacing:
		log.Debug("Overwriting target config " + dest)
	case template.Postponed:
		log.Debug("Reload of target config " + dest + " waits " + ev.Text)
	case template.Updated:
		log.Info("Target config " + dest + " has been updated")
	case template.Failed:
		var command *template.CommandError
		if errors.As(ev.Err, &command) {
			log.Error(strconv.Quote(command.Output))
		}
		log.Error(words(ev.Err))
	}
}

// fatal logs err as the last line. The exit code is 1 even where the level hides it.
func fatal(log *slog.Logger, err error) { log.Log(context.Background(), levelFatal, words(err)) }

// words are how the original says err; where it has no words that scripts know
// they are ours, which name the file and the line.
func words(err error) string {
	var (
		source  *template.SourceError
		command *template.CommandError
		load    *template.LoadError
		exec    gotemplate.ExecError
		missing *template.NoConfdirError
	)
	switch {
	case errors.As(err, &source) && source.Missing:
		return "Missing template: " + source.Path
	case errors.As(err, &source):
		return fmt.Sprintf("Unable to process template %s, %v", source.Path, source.Err)
	case errors.As(err, &command) && command.Key == "check_cmd":
		return "Config check failed: " + command.Err.Error()
	case errors.As(err, &command):
		return command.Err.Error()
	case errors.As(err, &exec):
		return exec.Error()
	case errors.Is(err, template.ErrNoSrc):
		return err.Error()
	case errors.As(err, &load) && load.Line > 0:
		return fmt.Sprintf("Cannot process template resource %s - toml: line %d: %v", load.Path, load.Line, load.Err)
	case errors.As(err, &load):
		return fmt.Sprintf("Cannot process template resource %s - %v", load.Path, load.Err)
	case errors.Is(err, template.ErrNoResources):
		return "Found no templates"
	case errors.As(err, &missing):
		return fmt.Sprintf("Cannot load template resources: confdir '%s' does not exist", missing.Confdir)
	}
	return err.Error()
}
