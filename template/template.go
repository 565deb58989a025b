// Package template keeps files in step with a store, as confd does: a resource
// says which keys a template takes and where its text goes, and what to run
// when that changed.
//
//	conf.d/*.toml ──Load──> Resource ─┐
//	store ──keys──────────────────────┴─render─> stage file ─check─> dest ─reload
//
// An [Engine] does that once, by interval, or on each change of the keys. What
// happens is told as [Event]s; the command that runs the engine has the words.
// This package reads no flag and knows no particular store.
package template

import (
	"errors"
	"sync/atomic"
	"time"

	"muster/backends"
)

// Config says what an Engine renders, and how.
type Config struct {
	// Confdir holds the resources in conf.d and the templates in templates.
	Confdir string

	// Store is where the keys are.
	Store backends.Store

	// Prefix replaces the prefix of every resource, unless it is empty.
	Prefix string

	Noop      bool // compare only, change nothing
	SyncOnly  bool // run neither check_cmd nor reload_cmd
	KeepStage bool // leave the stage file beside dest, for debugging

	// CheckTimeout and ReloadTimeout are how long the commands may take before
	// they, and all that they started, are ended. Zero means 30s and 60s.
	CheckTimeout, ReloadTimeout time.Duration

	// Quiet is how long the keys of a resource must be quiet under Watch until
	// it is rendered, so that changes that follow each other are rendered
	// together; it never waits longer than 250ms, or Quiet if that is more.
	// Zero means DefaultQuiet; negative means that nothing is waited for.
	Quiet time.Duration

	// Report is told what happens; nil means nobody. Under Watch it is called
	// by several goroutines at once.
	Report func(Event)
}

// DefaultQuiet is Config.Quiet where nothing is said.
const DefaultQuiet = 20 * time.Millisecond

// An Engine renders the resources of one folder from one store.
type Engine struct {
	Config
	book     *book
	reread   chan struct{} // holds one token while the resources are to be read again
	commands atomic.Int64  // how many were started
}

// New checks c and returns its engine.
func New(c Config) (*Engine, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("template: no store"))
	}
	if c.CheckTimeout < 0 || c.ReloadTimeout < 0 {
		errs = append(errs, errors.New("template: a command's timeout is negative"))
	}
	if c.CheckTimeout == 0 {
		c.CheckTimeout = 30 * time.Second
	}
	if c.ReloadTimeout == 0 {
		c.ReloadTimeout = time.Minute
	}
	if c.Quiet == 0 {
		c.Quiet = DefaultQuiet
	}
	if c.Report == nil {
		c.Report = func(Event) {}
	}
	return &Engine{Config: c, book: newBook(), reread: make(chan struct{}, 1)}, errors.Join(errs...)
}

// Reread lets Watch and Every read the resources again, and render them all.
func (e *Engine) Reread() {
	select {
	case e.reread <- struct{}{}:
	default:
	}
}

// Status is how each resource is doing, in the order of their files.
func (e *Engine) Status() []Status { return e.book.status() }

// An Event is one thing that happened.
type Event struct {
	What     What
	Resource *Resource // nil where it is about all of them
	Path     string    // the file it is about: a resource's, the template's or the stage file's, empty where none was needed
	Key      string    // of Running and Ran: "check_cmd" or "reload_cmd"
	Text     string    // of Running: the command; of Ran: its output; of Postponed: for how long; of Reading: the prefix
	Err      error     // of Failed, Uncomparable, StoreFailed and Empty

	// Of Differs: what is different, how dest has it and how it should be.
	Field, Have, Want string
}

// What is the kind of an Event.
type What int

// The kinds, in the order in which they happen to a resource.
const (
	Loading      What = iota // the resources are being read from the folder Path
	Found                    // Path is a resource
	Empty                    // there is no resource; Err says why
	StoreFailed              // the store can't be read at the moment
	Reading                  // the keys of Resource are being read
	Rendering                // the template at Path is being executed
	Kept                     // the stage file at Path stays
	Comparing                // the stage file is compared with dest
	Uncomparable             // dest can't be read, and is taken as different
	Differs                  // dest is not as it should be in Field
	Spared                   // dest is left as it is, because of Noop
	InSync                   // dest is as it should be
	OutOfSync                // dest is to be replaced
	Running                  // a command starts
	Ran                      // a command ended well
	Replacing                // dest is being replaced
	Postponed                // dest is new, and reload_cmd is run when the last run is a second ago
	Updated                  // dest is new, and reload_cmd went well
	Failed                   // Resource, or one that can't be read, failed with Err
)
