package template

import (
	"context"
	"sync"
	"time"

	"muster/backends"
)

// window is how many resources are rendered and wait for the disk at the same
// time. It bounds the stage files that a kill leaves.
const window = 32

// processAll processes resources with the keys as they are now, and calls done
// with how each went. It looks as if they were processed one after another: what
// is done ahead, reading, rendering and writing stage files, nobody sees, and it
// is done again where one that came before may have changed what it was made of.
func (e *Engine) processAll(ctx context.Context, resources []*Resource, paced bool, done func(r *Resource, wait time.Duration, err error)) {
	_, together := e.Store.(backends.Together)
	before := e.commands.Load()
	var keys *reading
	renamed := make(unsynced)
	for len(resources) > 0 && ctx.Err() == nil {
		some := resources[:e.window(resources)]
		switch {
		case !together || e.commands.Load() > before:
			keys = e.reading(ctx, some) // a command may have changed them
		case keys == nil:
			keys = e.reading(ctx, resources)
		}
		e.processSome(ctx, keys, some, paced, renamed, done)
		resources = resources[len(some):]
	}
	renamed.sync(func(r *Resource, err error) {
		e.book.passed(r, err)
		done(r, 0, err)
	})
}

// window is how many of resources are prepared together. After one with commands
// everything may be different, and the store itself may be in files that are some
// resource's dest, unless it is one for all.
func (e *Engine) window(resources []*Resource) int {
	if _, ok := e.Store.(backends.Together); !ok {
		return 1
	}
	resources = resources[:min(len(resources), window)]
	for i, r := range resources {
		if e.runs(r) {
			return i + 1
		}
	}
	return len(resources)
}

// runs reports whether r may run a command.
func (e *Engine) runs(r *Resource) bool {
	return !e.Noop && !e.SyncOnly && (r.Check != "" || r.Reload != "")
}

// processSome processes the resources of one window.
func (e *Engine) processSome(ctx context.Context, keys *reading, resources []*Resource, paced bool, renamed unsynced, done func(*Resource, time.Duration, error)) {
	turns := make([]*turn, len(resources))
	var wg sync.WaitGroup
	for i, r := range resources {
		t := &turn{}
		turns[i] = t
		names, err := keys.names(r)
		e.book.store(r, err)
		t.tell(Event{What: Reading, Resource: r, Text: r.prefix(e.Prefix)})
		if err != nil {
			t.candidate = &candidate{resource: r, err: err}
			continue
		}
		wg.Go(func() { t.candidate = e.prepare(r, names, new(parsed), t.tell) })
	}
	wg.Wait()
	replaced := false
	for i, r := range resources {
		t := turns[i]
		if ctx.Err() != nil {
			t.candidate.discard()
			continue
		}
		if c := t.candidate; replaced && c.names != nil && c.stale(e.Confdir) {
			c.discard()
			t.events = t.events[:1] // that it was read
			t.candidate = e.prepare(r, c.names, new(parsed), t.tell)
		}
		replaced = replaced || t.candidate.path != ""
		for _, ev := range t.events {
			e.Report(ev)
		}
		wait, err := e.finish(ctx, t.candidate, paced, renamed.add)
		e.book.passed(r, err)
		done(r, wait, err)
	}
}

// A turn is a candidate with the events to be told when its turn comes.
type turn struct {
	candidate *candidate
	events    []Event
}

func (t *turn) tell(ev Event) { t.events = append(t.events, ev) }
