package template

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"muster/backends"
)

// Changes that follow each other within quiet are rendered together, the first
// of them at most patience after it came.
const (
	quiet    = 20 * time.Millisecond
	patience = 250 * time.Millisecond
)

// Once processes every resource, one after another. A resource that fails is
// reported and hurts no other; the error is that of the last that failed. No
// resources are no error.
func (e *Engine) Once(ctx context.Context) error {
	resources, failed, err := e.load()
	if err != nil || len(resources) == 0 {
		return err
	}
	for _, r := range resources {
		if err := e.once(ctx, r); err != nil {
			e.Report(Event{What: Failed, Resource: r, Err: err})
			failed = err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return failed
}

// Every processes every resource each interval until ctx ends. The resources
// are read anew each time. It is an error when at the start there is none that
// could be used; later that is reported and may get better.
func (e *Engine) Every(ctx context.Context, interval time.Duration) error {
	for first := true; ; first = false {
		resources, _, err := e.load()
		switch {
		case err != nil && first:
			return err
		case err != nil:
			e.Report(Event{What: Failed, Err: err})
		}
		for _, r := range resources {
			if err := e.once(ctx, r); err != nil && ctx.Err() == nil {
				e.Report(Event{What: Failed, Resource: r, Err: err})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// Watch processes each resource at the start and whenever its keys change, until
// ctx ends. What fails is tried again. Without resources it returns at once.
func (e *Engine) Watch(ctx context.Context) error {
	resources, _, err := e.load()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, r := range resources {
		wg.Go(func() { e.follow(ctx, r) })
	}
	wg.Wait()
	return nil
}

// load returns the resources that can be used. Those that can't are reported,
// and failed is the last of them; if they are all there are it is err instead,
// and left to the caller.
func (e *Engine) load() (resources []*Resource, failed, err error) {
	e.Report(Event{What: Loading, Path: e.Confdir})
	resources, broken, err := Load(e.Confdir)
	if missing := (*NoConfdirError)(nil); errors.As(err, &missing) || errors.Is(err, ErrNoResources) {
		e.Report(Event{What: Empty, Err: err})
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
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

// once processes r with the keys as they are now.
func (e *Engine) once(ctx context.Context, r *Resource) error {
	e.Report(Event{What: Reading, Resource: r})
	keys, err := read(ctx, e.Store, r.prefixes(e.Prefix))
	if err != nil {
		return err
	}
	return e.process(ctx, r, keys)
}

// follow processes r for as long as ctx lasts. It renders what the watch itself
// said, so there is no moment between reading and watching to miss a change in.
func (e *Engine) follow(ctx context.Context, r *Resource) {
	e.Report(Event{What: Reading, Resource: r})
	feed := backends.NewFeed(ctx, e.Store, r.prefixes(e.Prefix)...)
	defer feed.Close()
	f := follower{keys: make(map[string]string), pause: backoff.NewExponentialBackOff()}
	f.pause.MaxInterval = 30 * time.Second
	var said, failed string // the store's and r's errors reported last, "" while there is none
	for {
		change, err := f.next(ctx, feed)
		switch {
		case ctx.Err() != nil || errors.Is(err, backends.ErrClosed):
			return
		case errors.Is(err, context.DeadlineExceeded):
			err := e.process(ctx, r, f.keys)
			switch {
			case err == nil:
				failed = ""
			case err.Error() != failed && ctx.Err() == nil:
				failed = err.Error()
				e.Report(Event{What: Failed, Resource: r, Err: err})
			}
			f.processed(err)
		case err != nil:
			if err.Error() != said {
				e.Report(Event{What: StoreFailed, Resource: r, Err: err})
			}
			said = err.Error()
		default:
			said = ""
			f.take(change)
		}
	}
}

// A follower knows the keys of a resource and when to process it.
type follower struct {
	keys  map[string]string
	whole bool // a Full Change was there
	since time.Time
	due   time.Time // zero: nothing to do
	pause *backoff.ExponentialBackOff
}

// next waits for the next Change, until the resource is due.
func (f *follower) next(ctx context.Context, feed *backends.Feed) (backends.Change, error) {
	if !f.due.IsZero() {
		if !time.Now().Before(f.due) {
			return backends.Change{}, context.DeadlineExceeded // before any more news
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, f.due)
		defer cancel()
	}
	return feed.Next(ctx)
}

// take applies c; the first keys are due at once, later ones when it is quiet.
func (f *follower) take(c backends.Change) {
	changed := apply(f.keys, c)
	now := time.Now()
	switch {
	case c.Full && !f.whole:
		f.whole, f.since, f.due = true, now, now
	case changed && f.whole:
		if f.since.IsZero() {
			f.since = now
		}
		f.due = now.Add(min(quiet, time.Until(f.since.Add(patience))))
	}
}

// processed plans the next attempt where the last one failed.
func (f *follower) processed(err error) {
	f.since, f.due = time.Time{}, time.Time{}
	if err == nil {
		f.pause.Reset()
		return
	}
	f.due = time.Now().Add(f.pause.NextBackOff())
}
