package template

import (
	"context"
	"errors"
	"time"
)

// Once processes every resource, one after another. A resource that fails is
// reported and hurts no other; the error is that of the last that failed. No
// resources are no error.
func (e *Engine) Once(ctx context.Context) error {
	resources, failed, err := e.load()
	if err != nil || len(resources) == 0 {
		return err
	}
	e.processAll(ctx, resources, false, func(r *Resource, _ time.Duration, err error) {
		if err != nil {
			e.Report(Event{What: Failed, Resource: r, Err: err})
			failed = err
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return failed
}

// Every processes every resource each interval, and at once after Reread, until
// ctx ends. The resources are read anew each time. It is an error when at the
// start there is none that could be used; later that is reported and may get
// better.
func (e *Engine) Every(ctx context.Context, interval time.Duration) error {
	for first := true; ; first = false {
		resources, _, err := e.load()
		switch {
		case err != nil && first:
			return err
		case err != nil:
			e.Report(Event{What: Failed, Err: err})
		}
		next := time.NewTimer(interval)
		var putOff []*Resource
		e.processAll(ctx, resources, true, func(r *Resource, wait time.Duration, err error) {
			if err != nil && ctx.Err() == nil {
				e.Report(Event{What: Failed, Resource: r, Err: err})
			}
			if wait > 0 {
				putOff = append(putOff, r)
				next.Reset(min(wait, interval))
			}
		})
		select {
		case <-ctx.Done():
			next.Stop()
			for _, r := range putOff {
				e.lastReload(ctx, r)
			}
			return nil
		case <-e.reread:
			next.Stop()
		case <-next.C:
		}
	}
}

// lastReload runs the reload_cmd that was put off, when the engine ends: dest
// is new already, and who reads it shall know.
func (e *Engine) lastReload(ctx context.Context, r *Resource) {
	if err := e.reload(ctx, r, ""); err != nil {
		e.Report(Event{What: Failed, Resource: r, Err: err})
	}
}

// load returns the resources that can be used. Those that can't are reported,
// and failed is the last of them; if they are all there are it is err instead,
// and left to the caller.
func (e *Engine) load() (resources []*Resource, failed, err error) {
	e.Report(Event{What: Loading, Path: e.Confdir})
	resources, broken, err := Load(e.Confdir)
	if missing := (*NoConfdirError)(nil); errors.As(err, &missing) || errors.Is(err, ErrNoResources) {
		e.book.loaded(nil, nil)
		e.Report(Event{What: Empty, Err: err})
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	e.book.loaded(resources, broken)
	if len(resources) == 0 {
		return nil, nil, broken[len(broken)-1]
	}
	for _, err := range broken {
		e.Report(Event{What: Failed, Err: err})
		failed = err
	}
	for _, r := range resources {
		e.Report(Event{What: Found, Resource: r, Path: r.File})
	}
	return resources, failed, nil
}
