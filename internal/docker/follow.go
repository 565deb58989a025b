package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// patience is how long the engine may be silent when it is asked something.
const patience = 5 * time.Second

// A Follower keeps up with what the containers of an engine announce. It says
// the whole, and only the newest: who is slow skips ahead.
type Follower struct {
	// Changed holds one token while there is something new: other apps, an error,
	// or the end of one.
	Changed <-chan struct{}

	cfg     Config
	stop    context.CancelFunc
	done    chan struct{}
	changed chan struct{}
	first   chan struct{} // closed when there is a first answer or error

	mu   sync.Mutex // guards what follows
	apps []App
	err  error
}

// Follow starts to follow the engine of c, until Close or the end of ctx. What is
// wrong with c comes as an error of Apps.
func Follow(ctx context.Context, c Config) *Follower {
	ctx, stop := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	f := &Follower{
		Changed: changed, cfg: c.withDefaults(), stop: stop, done: make(chan struct{}),
		changed: changed, first: make(chan struct{}),
	}
	go func() {
		defer close(f.done)
		f.run(ctx)
	}()
	return f
}

// Apps are what the containers announce now, by service and ID, or why that is
// not known. It waits for the first answer of the engine, or until ctx ends.
func (f *Follower) Apps(ctx context.Context) ([]App, error) {
	select {
	case <-f.first:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.apps, f.err
}

// Close stops following and waits until it has ended.
func (f *Follower) Close() {
	f.stop()
	<-f.done
}

// run has one session with the engine after the other.
func (f *Follower) run(ctx context.Context) {
	known := newContainers(f.cfg)
	const shortest, longest = 50 * time.Millisecond, time.Second
	pause := shortest
	for {
		answered, err := known.session(ctx, f.publish)
		if ctx.Err() != nil {
			return
		}
		if answered {
			pause = shortest
		}
		f.fail(fmt.Errorf("docker: %w", err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

func (f *Follower) publish(apps []App) { f.tell(apps, nil) }

// fail says that the engine is away; what was known of it is not.
func (f *Follower) fail(err error) { f.tell(nil, err) }

func (f *Follower) tell(apps []App, err error) {
	f.mu.Lock()
	f.apps, f.err = apps, err
	f.mu.Unlock()
	select {
	case <-f.first:
	default:
		close(f.first)
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// errSilent ends a session with an engine that does not answer.
var errSilent = errors.New("no answer within " + patience.String())

// sorted are the apps of all containers by service and ID. Of two with the same
// the one that runs for longer counts, and say is told of the other.
func sorted(all []App, say func(container string, err error)) []App {
	started := func(a App) time.Time {
		if a.Started == nil {
			return time.Time{}
		}
		return *a.Started
	}
	slices.SortFunc(all, func(a, b App) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.ID, b.ID), started(a).Compare(started(b)), strings.Compare(a.Container, b.Container))
	})
	unique := all[:0]
	for _, a := range all {
		if n := len(unique); n > 0 && unique[n-1].Service == a.Service && unique[n-1].ID == a.ID {
			say(a.Container, fmt.Errorf("%s/%s is announced by container %q already", a.Service, a.ID, unique[n-1].Container))
			continue
		}
		unique = append(unique, a)
	}
	return unique
}
