package etcd

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"muster/backends"
	"muster/internal/storeaddr"
)

const (
	// askEvery is how often etcd is asked where it stands. A quiet store is told
	// from a stuck one by its answers.
	askEvery = 500 * time.Millisecond

	// fewKeys are listed again after any break, which is always right. More than
	// that are only listed when etcd can't prove that it is where it was.
	fewKeys = 10_000

	// relistWithin is the time in which those who have to list more than that again
	// do it, each when chance says: a compaction, or a restored etcd, has them all
	// do it, and for etcd each is a fifth of a second for 100,000 keys. What is
	// known serves meanwhile.
	relistWithin = 3 * time.Second
)

// errLeft means that nobody wants more of the Watch.
var errLeft = errors.New("the loop left")

// Watch follows the keys under prefixes, as [backends.Store] says. Each break of
// the connection gives one error, and nothing more until it has healed. A user
// who may read only what lies below a prefix gets that, without the key that is
// the prefix itself.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		w := &watch{store: s, prefixes: prefixes, yield: yield, every: askEvery}
		w.place.spans = spans(prefixes, false)
		w.run(ctx)
	}
}

// A watch is one running Watch.
type watch struct {
	store    *Store
	prefixes []string
	yield    func(backends.Change, error) bool

	every    time.Duration // how often to ask where etcd stands; at least askEvery
	at       int           // the member to use
	narrow   bool          // see spans
	exact    bool          // the spans are what they are
	started  bool          // the first Full was yielded
	place    place         // where we are
	answered bool          // something came on the stream
	spread   bool          // the list to come was put off by chance
	failures int           // rounds and streams since something came
}

// run connects, follows until that breaks, and so on.
func (w *watch) run(ctx context.Context) {
	told := false    // of the break that is not healed yet
	var errs []error // of the addresses tried since the last success
	for ctx.Err() == nil {
		m := w.store.members[w.at]
		w.answered = false
		s, full, err := w.connect(ctx, m)
		if err == nil {
			listed := full != nil
			err = w.follow(ctx, s, full)
			s.close()
			if errors.Is(err, errLeft) {
				return
			}
			if listed || w.answered {
				told, errs = false, nil // it had healed
			} else {
				w.place.lose() // there may be too much to come from there
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errCompacted):
			w.place.lose() // and list again, here: this is not a break
			continue
		case s == nil && w.denied(err):
			continue
		}
		errs = append(errs, m.trouble(err))
		w.at = (w.at + 1) % len(w.store.members)
		round := len(errs) >= len(w.store.members)
		if !told && (w.started || round) {
			if told = true; !w.yield(backends.Change{}, storeaddr.Together(errs...)) {
				return
			}
		}
		if w.answered || s == nil && !round {
			continue // with the next address, at once
		}
		errs = nil
		if !pause(ctx, retryAfter(&w.failures)) {
			return
		}
	}
}

// connect opens a stream from where we are, if etcd is still the one we know, or
// else lists everything and opens it from there. full is what to yield first, or
// nil.
func (w *watch) connect(ctx context.Context, m *member) (s *stream, full *backends.Change, err error) {
	var conn *grpc.ClientConn
	resume := false
	err = timed(ctx, answerWithin, func(ctx context.Context) (err error) {
		if conn, err = m.conn(ctx); err == nil {
			resume, err = w.place.still(ctx, etcdserverpb.NewKVClient(conn))
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if !resume {
		if w.started && w.place.keys >= fewKeys && !w.spread {
			w.spread = true
			if !pause(ctx, rand.N(relistWithin)) {
				return nil, nil, ctx.Err()
			}
		}
		kvs, revision, err := list(ctx, conn, w.place.spans)
		if err != nil {
			return nil, nil, err
		}
		w.place.listed(kvs, revision)
		w.spread = false
		full = &backends.Change{Revision: revision, Full: true, Put: kvs}
	}
	if s, err = openStream(ctx, conn, w.place.spans, w.place.safe); err != nil {
		if full != nil {
			w.place.lose() // it was listed, but nobody has seen it
		}
		return nil, nil, err
	}
	return s, full, nil
}

// denied reports whether a narrower choice of ranges may help a user who is not
// allowed to read these.
func (w *watch) denied(err error) bool {
	if w.exact {
		return false
	}
	if e, ok := errors.AsType[*canceledError](err); ok {
		if !strings.Contains(e.reason, "permission denied") {
			return false
		}
	} else if codeOf(err) != codes.PermissionDenied {
		return false
	}
	// If that is refused too, the next time is for the wider ones again.
	w.narrow = !w.narrow
	w.place = place{spans: spans(w.prefixes, w.narrow)}
	return w.narrow
}

// follow yields what comes until the stream breaks.
func (w *watch) follow(ctx context.Context, s *stream, full *backends.Change) error {
	if full != nil {
		w.started = true
		if !w.yield(*full, nil) {
			return errLeft
		}
		*full = backends.Change{} // this goes on for long, and that may be large
	}
	ctx, cancel := context.WithCancel(ctx)
	ask := time.NewTicker(w.every)
	defer ask.Stop()
	proofs := newProofs(ctx, s)
	defer proofs.wait()
	defer cancel() // before wait
	within := proofs.within() + w.every - askEvery
	silence := time.NewTimer(within)
	defer silence.Stop()
	lastYield := time.Now()
	s.askProgress()
	for {
		r, err := s.next(ctx, ask, silence, proofs, &w.place)
		if err != nil {
			return err
		}
		w.answered, w.failures = true, 0
		var c backends.Change
		needProgress, proof := false, r == nil
		if proof {
			c, err = proofs.take(&w.place)
		} else {
			proofs.heard(r)
			c, needProgress = w.place.take(s.span(r), r)
			proof = r.WatchId < 0
		}
		if err != nil {
			return err
		}
		if needProgress {
			s.askProgress()
		}
		if len(c.Put)+len(c.Deleted) > 0 || proof || time.Since(lastYield) >= askEvery {
			if !w.yield(c, nil) {
				return errLeft
			}
			lastYield = time.Now()
		}
		// What the loop's body took is not etcd's silence.
		silence.Reset(within)
	}
}

// next waits for a response, and asks for one. nil without an error is an answer
// to proofs.
func (s *stream) next(ctx context.Context, ask *time.Ticker, silence *time.Timer, proofs *proofs, p *place) (*etcdserverpb.WatchResponse, error) {
	for {
		if len(s.early) > 0 {
			r := s.early[0]
			s.early = s.early[1:]
			return r, nil
		}
		select {
		case r, ok := <-s.responses:
			switch {
			case !ok:
				return nil, s.err
			case r.Canceled:
				return nil, canceled(r)
			default:
				return r, nil
			}
		case proofs.last = <-proofs.answers:
			return nil, nil
		case <-ask.C:
			s.askProgress()
			proofs.ask(p)
		case <-silence.C:
			return nil, errSilent
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
