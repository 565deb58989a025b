package template

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"muster/backends"
)

// patience is how long the first of several changes waits at most for the keys
// to be quiet.
const patience = 250 * time.Millisecond

// Watch processes each resource at the start and whenever its keys change, until
// ctx ends; what is being rendered then is finished first. What fails is tried
// again, and holds up no other resource. Reread adds new resources, ends those
// that are gone and renders all; a resource that got broken goes on as it was.
// Without resources at the start it returns at once.
func (e *Engine) Watch(ctx context.Context) error {
	resources, _, err := e.load()
	if err != nil || len(resources) == 0 {
		return err
	}
	w := &watching{engine: e, store: share(e.Store), followers: make(map[string]*follower), release: func() {}}
	w.syncer = newSyncer(func(r *Resource, err error) {
		e.book.passed(r, err)
		e.Report(Event{What: Failed, Resource: r, Err: err})
	})
	defer w.syncer.sync()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.syncer.run(ctx) })
	defer func() { w.release() }()
	for {
		w.update(ctx, &wg, resources)
		select {
		case <-ctx.Done():
			return nil
		case <-e.reread:
		}
		if resources, _, err = e.load(); err != nil {
			e.Report(Event{What: Failed, Err: err})
		}
	}
}

// watching is one Watch: its followers, by the resource's file.
type watching struct {
	engine    *Engine
	store     *shared
	syncer    *syncer
	release   func() // lets the store forget the keys of resources
	followers map[string]*follower
}

// update starts a follower for each of resources. It takes over from the one
// that its file has already, which may be in the middle of something; those
// whose file is gone end, and those whose file got broken go on.
func (w *watching) update(ctx context.Context, wg *sync.WaitGroup, resources []*Resource) {
	there := w.engine.book.files()
	for file, f := range w.followers {
		if !there[file] {
			f.stop()
			delete(w.followers, file)
		}
	}
	var sets []set
	for _, r := range resources {
		sets = append(sets, r.set(w.engine.Prefix))
	}
	release := w.store.hold(sets) // from now on, whoever of a file's two followers reads
	w.release()
	w.release = release
	for _, r := range resources {
		ctx, stop := context.WithCancel(ctx)
		before, f := w.followers[r.File], newFollower(r, &w.engine.Config)
		f.stop = stop
		w.followers[r.File] = f
		wg.Go(func() {
			defer close(f.done)
			defer stop()
			if before != nil {
				before.stop()
				<-before.done
			}
			w.follow(ctx, f)
		})
	}
}

// A follower keeps one resource in step: it knows the keys and when to process
// it.
type follower struct {
	view   *view
	parsed parsed
	quiet  time.Duration
	whole  bool // a Full Change was there
	since  time.Time
	due    time.Time // zero: nothing to do
	owing  bool      // the last process put its reload_cmd off
	pause  *backoff.ExponentialBackOff

	stop context.CancelFunc
	done chan struct{} // closed when it has ended
}

func newFollower(r *Resource, c *Config) *follower {
	f := &follower{view: newView(r, c.Prefix), quiet: c.Quiet, pause: backoff.NewExponentialBackOff(), done: make(chan struct{})}
	f.pause.MaxInterval = 30 * time.Second
	return f
}

// follow processes f's resource for as long as ctx lasts. It renders what the
// watch itself said, so there is no moment between reading and watching to miss
// a change in.
func (w *watching) follow(ctx context.Context, f *follower) {
	e, r := w.engine, f.view.resource
	e.Report(Event{What: Reading, Resource: r, Text: r.prefix(e.Prefix)})
	feed := backends.NewFeed(ctx, w.store, r.prefixes(e.Prefix)...)
	defer feed.Close()
	var said, failed string // the store's and r's errors reported last, "" while there is none
	for {
		change, err := f.next(ctx, feed)
		switch {
		case ctx.Err() != nil || errors.Is(err, backends.ErrClosed):
			if f.owing {
				e.lastReload(ctx, r)
			}
			return
		case errors.Is(err, context.DeadlineExceeded):
			wait, err := w.process(ctx, f)
			switch {
			case err == nil:
				failed = ""
			case err.Error() != failed && ctx.Err() == nil:
				failed = err.Error()
				e.Report(Event{What: Failed, Resource: r, Err: err})
			}
			f.processed(wait, err)
		case err != nil:
			e.book.store(r, err)
			if err.Error() != said {
				e.Report(Event{What: StoreFailed, Resource: r, Err: err})
			}
			said = err.Error()
		default:
			if said != "" {
				e.book.store(r, nil)
			}
			said = ""
			f.take(change)
		}
	}
}

// process brings f's resource up to the keys that are known.
func (w *watching) process(ctx context.Context, f *follower) (wait time.Duration, err error) {
	e, r := w.engine, f.view.resource
	c := e.prepare(r, f.view.tree(), &f.parsed, e.Report)
	wait, err = e.finish(ctx, c, true, w.syncer.add)
	e.book.passed(r, err)
	return wait, err
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
// That holds for the first change after a long time too: what belongs together is
// often put key by key, and a file with a part of it would go to a reload_cmd that
// is not run again for a second. Who puts in one transaction can do without
// (Quiet < 0). What has to wait for another reason, a reload_cmd or a failure, waits no
// longer for that.
func (f *follower) take(c backends.Change) {
	changed := f.view.apply(c)
	now := time.Now()
	switch {
	case c.Full && !f.whole:
		f.whole, f.since, f.due = true, now, now
	case changed && f.whole:
		if f.since.IsZero() {
			f.since = now
		}
		f.due = now.Add(min(f.quiet, time.Until(f.since.Add(max(patience, f.quiet)))))
	}
}

// processed plans the next attempt where the last one failed, or put off its
// reload_cmd by wait.
func (f *follower) processed(wait time.Duration, err error) {
	f.since, f.due, f.owing = time.Time{}, time.Time{}, wait > 0
	switch {
	case err != nil:
		f.due = time.Now().Add(f.pause.NextBackOff())
	case wait > 0:
		f.due = time.Now().Add(wait)
	default:
		f.pause.Reset()
	}
}
