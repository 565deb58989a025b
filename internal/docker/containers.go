package docker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// containers is what is known of an engine's containers. It outlives a session:
// what was told to end, from which event on to ask, what was said of whom.
type containers struct {
	origin
	known map[string]known     // by ID, those that run
	dirty map[string]struct{}  // IDs that have to be inspected
	later map[string]struct{}  // those of them that the engine did not tell of
	told  map[string]time.Time // who was told to end, and when
	last  time.Time            // of the newest event
	said  map[string]string    // what is wrong with whom, by name
}

// A known is what inspecting a container came to.
type known struct {
	name       string
	stopSignal string
	apps       []App
	err        error
}

func newContainers(c Config) *containers {
	return &containers{
		origin: origin{Config: c}, known: make(map[string]known), told: make(map[string]time.Time), said: make(map[string]string),
		dirty: make(map[string]struct{}), later: make(map[string]struct{}),
	}
}

func (cs *containers) since() string { return stamp(cs.last) }

// relist makes running those that run on the machine. What is known of them stays
// until they are inspected.
func (cs *containers) relist(machine string, running []container.Summary) {
	cs.machine = machine
	cs.dirty = make(map[string]struct{}, len(running))
	clear(cs.later)
	for _, c := range running {
		cs.dirty[c.ID] = struct{}{}
	}
	gone := func(id string) bool { _, runs := cs.dirty[id]; return !runs }
	maps.DeleteFunc(cs.known, func(id string, _ known) bool { return gone(id) })
	maps.DeleteFunc(cs.told, func(id string, _ time.Time) bool { return gone(id) })
}

// note takes events in: which containers have to be inspected, who was told to
// end, and who has ended.
func (cs *containers) note(batch []events.Message) {
	for _, m := range batch {
		id := subject(m)
		if id == "" {
			continue
		}
		cs.dirty[id] = struct{}{}
		cs.last = at(m)
		switch m.Action {
		case events.ActionKill:
			if ends(m.Actor.Attributes["signal"], cs.known[id].stopSignal) {
				cs.told[id] = at(m)
			}
		case events.ActionDie, events.ActionDestroy:
			delete(cs.known, id)
			delete(cs.told, id)
		}
	}
}

// learn takes a result in, unless events have come since it was asked for: then
// it is asked for again. What the engine does not tell of a container is as it was,
// and is asked for later. The error is one of the connection.
func (cs *containers) learn(r result) error {
	if _, old := cs.dirty[r.id]; old {
		return nil
	}
	switch {
	case r.err == nil:
		c := &r.container
		k := known{name: strings.TrimPrefix(c.Name, "/")}
		if k.apps, k.err = cs.announced(c, cs.told[r.id]); c.Config != nil {
			k.stopSignal = c.Config.StopSignal
		}
		cs.known[r.id] = k
	case cerrdefs.IsNotFound(r.err):
		delete(cs.known, r.id)
		delete(cs.told, r.id)
	case client.IsErrConnectionFailed(r.err):
		return r.err
	default:
		cs.later[r.id] = struct{}{}
		if errors.Is(r.err, context.DeadlineExceeded) {
			return nil // it is at work with it
		}
		k := cs.known[r.id]
		k.err = r.err
		cs.known[r.id] = k
	}
	return nil
}

// apps is what all containers announce. What is wrong with one is said once.
func (cs *containers) apps() (all []App) {
	wrong := make(map[string]string)
	say := func(container string, err error) { wrong[container] = err.Error() }
	for id, k := range cs.known {
		all = append(all, k.apps...)
		if k.err != nil {
			say(cmp.Or(k.name, id), k.err)
		}
	}
	all = sorted(all, say)
	for _, name := range slices.Sorted(maps.Keys(wrong)) {
		if cs.said[name] != wrong[name] {
			cs.Log.Warn("container not announced", "container", name, "err", wrong[name])
		}
	}
	cs.said = wrong
	return all
}
