package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// A session is one connection to the engine, from its first question to its
// break.
type session struct {
	ctx     context.Context
	client  *client.Client
	wg      sync.WaitGroup
	in      *inbox
	results chan result
	busy    map[string]struct{} // IDs that are being inspected
}

// session subscribes to the engine's events, reads all of its containers, and
// keeps up with them until that breaks or ctx ends. Each new list goes to publish.
// answered says that there was one.
func (cs *containers) session(ctx context.Context, publish func([]App)) (answered bool, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	s := &session{ctx: ctx, in: newInbox(), results: make(chan result), busy: make(map[string]struct{})}
	defer s.wg.Wait()
	defer stop(nil)
	silent := time.AfterFunc(patience, func() { stop(errSilent) })
	defer silent.Stop()
	s.client, err = cs.Config.client()
	if err != nil {
		return false, err
	}
	defer s.client.Close()
	err = cs.open(s)
	if err == nil {
		answered, err = cs.keepUp(s, func() { silent.Reset(patience) }, publish)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answered, err
}

// open subscribes and lists, in this order, so that nothing is missed between.
func (cs *containers) open(s *session) error {
	if _, err := s.client.Ping(s.ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return err
	}
	stream := s.client.Events(s.ctx, client.EventsListOptions{Since: cs.since(), Filters: wanted()})
	s.wg.Go(func() { s.in.fill(stream) })
	info, err := s.client.Info(s.ctx, client.InfoOptions{})
	if err != nil {
		return err
	}
	running, err := s.client.ContainerList(s.ctx, client.ContainerListOptions{})
	if err != nil {
		return err
	}
	cs.relist(info.Info.Name, running.Items)
	return nil
}

// keepUp inspects what was listed and then what events name, and asks once a
// second whether the engine is there. The first list is whole, or lacks only what the
// engine has not told of within three seconds. Each container is inspected by itself: the
// engine does not tell of one while it starts, and the others go on.
func (cs *containers) keepUp(s *session, alive func(), publish func([]App)) (answered bool, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	ticks, changed := 0, true
	for {
		s.inspect(cs)
		if answered = answered || len(s.busy)+len(cs.dirty) == 0 || ticks > 2; answered && changed {
			publish(cs.apps())
			changed = false
		}
		select {
		case <-s.ctx.Done():
			return answered, s.ctx.Err()
		case <-s.in.news:
			changed = true
			batch, err := s.in.take()
			cs.note(batch)
			if err != nil {
				publish(cs.apps()) // what ended before the engine did
				return answered, err
			}
		case r := <-s.results:
			changed = true
			delete(s.busy, r.id)
			if err := cs.learn(r); err != nil {
				return answered, err
			}
		case <-tick.C:
			if _, err := s.client.Ping(s.ctx, client.PingOptions{}); err != nil {
				return answered, err
			}
			alive()
			ticks++
			maps.Copy(cs.dirty, cs.later)
			clear(cs.later)
		}
	}
}

// inspect asks for the dirty ones, but not for too many at a time nor for one
// twice.
func (s *session) inspect(cs *containers) {
	for id := range cs.dirty {
		if _, asked := s.busy[id]; asked || len(s.busy) == 32 {
			continue
		}
		delete(cs.dirty, id)
		s.busy[id] = struct{}{}
		s.wg.Go(func() {
			ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
			defer cancel()
			r, err := s.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
			select {
			case s.results <- result{id, r.Container, err}:
			case <-s.ctx.Done():
			}
		})
	}
}

// A result is what the engine says of a container.
type result struct {
	id        string
	container container.InspectResponse
	err       error
}

// wanted are the events that may change what a container announces. Those of
// exec, which a HEALTHCHECK makes many of, are not among them.
func wanted() client.Filters {
	return make(client.Filters).
		Add("type", string(events.ContainerEventType), string(events.NetworkEventType)).
		Add("event", "start", "die", "kill", "pause", "unpause", "rename", "update", "destroy", "health_status", "connect", "disconnect")
}

// An inbox takes events from the engine at once, which would drop them for a
// slow reader, until they are taken.
type inbox struct {
	news chan struct{} // slot of one

	mu     sync.Mutex // guards what follows
	events []events.Message
	err    error // after which nothing comes
}

func newInbox() *inbox { return &inbox{news: make(chan struct{}, 1)} }

// fill runs until the stream ends.
func (in *inbox) fill(stream client.EventsResult) {
	for {
		var ended error
		var got []events.Message
		select {
		case m := <-stream.Messages:
			got = []events.Message{m}
		case ended = <-stream.Err:
			if ended == nil || errors.Is(ended, io.EOF) {
				ended = errors.New("the engine ended the stream of events")
			}
		}
		in.mu.Lock()
		in.events, in.err = append(in.events, got...), ended
		in.mu.Unlock()
		select {
		case in.news <- struct{}{}:
		default:
		}
		if ended != nil {
			return
		}
	}
}

func (in *inbox) take() ([]events.Message, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	taken := in.events
	in.events = nil
	return taken, in.err
}

// subject is the container that an event is about.
func subject(m events.Message) string {
	if m.Type == events.NetworkEventType {
		return m.Actor.Attributes["container"]
	}
	return m.Actor.ID
}

func at(m events.Message) time.Time { return time.Unix(0, m.TimeNano) }

// stamp is a time as the engine takes it.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}
