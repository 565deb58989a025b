package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"

	"muster/backends"
	"muster/internal/failover"
)

const (
	// lookEvery is how often Redis is asked whether what is known is still
	// there. A quiet store is told from a stuck one by its answers.
	lookEvery = 500 * time.Millisecond

	// sampleCount is how many of the known keys are asked for then. It makes
	// Redis notice that they expired, and shows FLUSHALL, which no event tells.
	sampleCount = 1000

	// listEvery is how often everything is listed: where Redis tells of changes,
	// to find what it has no events for (SWAPDB, a replica that loads anew), and
	// where it doesn't. Listing takes at most a hundredth of the time, or a tenth.
	listEvery   = time.Minute
	listOften   = time.Second
	listShare   = 100
	listOftener = 10
)

// A watch is one running Watch.
type watch struct {
	store  *Store
	wanted wanted
	yield  func(backends.Change, error) bool

	revision int64 // Changes that changed something

	// Of the connection that is there.
	addr    string
	conn    redis.Conn
	events  *events // nil where we may not subscribe
	refused error   // why there are none
	view    *view
	tells   bool      // of all changes
	due     time.Time // when everything is listed again
}

// session is what happens on one connection. It has begun with a Full Change.
func (w *watch) session(ctx context.Context, at int) (began bool, err error) {
	n := &w.store.nodes[at]
	if w.conn, w.addr, err = n.dial(ctx); err != nil {
		return false, err
	}
	defer w.conn.Close()
	defer closeWith(ctx, w.conn)()
	news, _, err := n.dial(ctx)
	if err != nil {
		return false, err
	}
	defer news.Close()
	defer closeWith(ctx, news)()
	began, err = w.follow(ctx, news, n.db)
	if err != nil && !errors.Is(err, failover.ErrLeft) {
		err = &Error{"redis " + w.addr, err}
	}
	return began, err
}

// closeWith closes conn when ctx ends, until it is told not to: a call that
// waits for an answer returns then.
func closeWith(ctx context.Context, conn redis.Conn) (stop func()) {
	hook := context.AfterFunc(ctx, func() { conn.Close() })
	return func() { hook() }
}

// follow subscribes, lists, and then looks at what changed, until that breaks.
func (w *watch) follow(ctx context.Context, news redis.Conn, db int) (began bool, err error) {
	w.events, w.refused = nil, nil
	if w.events, err = subscribe(news, &w.wanted, db); err != nil {
		if !isCode(err, "NOPERM") {
			return false, err
		}
		exact, patterns := w.wanted.channels(db)
		w.refused = fmt.Errorf("allow the user the channels %s, or all: %w", strings.Join(append(exact, patterns...), " "), err)
	} else {
		defer w.events.close()
	}
	w.view = newView()
	if _, err := w.list(); err != nil {
		return false, err
	}
	w.revision++
	full := w.view.full()
	full.Revision = w.revision
	if !w.yield(full, nil) {
		return true, failover.ErrLeft
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		looking := false
		select {
		case <-w.news():
		case <-look.C:
			looking = true
		case <-ctx.Done():
			return true, ctx.Err()
		}
		c, err := w.changes(looking)
		if err != nil {
			return true, err
		}
		if len(c.Put)+len(c.Deleted) > 0 {
			w.revision++
		} else if !looking {
			continue
		}
		c.Revision = w.revision
		if !w.yield(c, nil) {
			return true, failover.ErrLeft
		}
	}
}

// news is nil, for ever silent, where there are no events.
func (w *watch) news() <-chan struct{} {
	if w.events == nil {
		return nil
	}
	return w.events.news
}

// changes reads what changed. looking says that it is time to look whether all
// is as it should be.
func (w *watch) changes(looking bool) (backends.Change, error) {
	var dirty []string
	var err error
	if w.events != nil {
		if dirty, err = w.events.take(); err != nil {
			return backends.Change{}, err
		}
	}
	if looking {
		told := w.tells
		if err := w.ask(); err != nil {
			return backends.Change{}, err
		}
		gone, all, err := w.sample()
		if err != nil {
			return backends.Change{}, err
		}
		if all || told != w.tells || !time.Now().Before(w.due) {
			return w.list()
		}
		dirty = append(dirty, gone...)
	}
	if len(dirty) == 0 {
		return backends.Change{}, nil
	}
	read, err := read(w.conn, &w.wanted, dirty)
	if err != nil {
		return backends.Change{}, err
	}
	return w.view.update(read), nil
}

// list reads everything and returns what differs from what is known.
func (w *watch) list() (backends.Change, error) {
	start := time.Now()
	if err := w.ask(); err != nil {
		return backends.Change{}, err
	}
	all, err := list(w.conn, &w.wanted)
	if err != nil {
		return backends.Change{}, err
	}
	took := time.Since(start)
	if w.tells {
		w.due = start.Add(max(listEvery, listShare*took))
	} else {
		w.due = start.Add(max(listOften-lookEvery/2, listOftener*took))
	}
	return w.view.replace(all), nil
}

// ask finds out whether Redis tells of all changes, and logs it where it doesn't.
func (w *watch) ask() error {
	setting, err := redis.StringMap(w.conn.Do("CONFIG", "GET", "notify-keyspace-events"))
	var why string
	switch {
	case w.refused != nil:
		why = w.refused.Error()
	case err != nil:
		if _, ok := errors.AsType[redis.Error](err); !ok {
			return err
		}
		why = "its setting can't be read, changes arrive at once if it tells of them: " + err.Error()
	case !tellsAll(setting["notify-keyspace-events"]):
		why = "set notify-keyspace-events to " + needed + " or KA (CONFIG SET notify-keyspace-events KA), it is \"" + setting["notify-keyspace-events"] + "\""
	}
	w.tells = why == ""
	w.store.tell(w.addr, why)
	return nil
}

// sample asks for some of the known keys, all of them where they are few. Those
// that may be gone are to be read; where most are, everything is to be listed.
func (w *watch) sample() (gone []string, all bool, err error) {
	keys := make([]string, 0, min(len(w.view.known), sampleCount))
	args := make([]any, 0, cap(keys))
	for raw := range w.view.known { // begins anywhere
		if keys = append(keys, raw); len(keys) == cap(keys) {
			break
		}
	}
	for _, key := range keys {
		args = append(args, key)
	}
	if len(keys) == 0 {
		_, err = w.conn.Do("PING")
		return nil, false, err
	}
	there, err := redis.Int(w.conn.Do("EXISTS", args...))
	if err != nil || there == len(keys) {
		return nil, false, err
	}
	return keys, there <= len(keys)/2, nil
}
