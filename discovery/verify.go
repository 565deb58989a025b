package discovery

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

const (
	verifyEvery = time.Second // between two rounds
	verifyMany  = 64          // checks at the same time
	missesToGo  = 2           // checks in a row; one that is refused is enough
)

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// A verifier asks about the holds, again and again, off the path of the news.
type verifier struct {
	more chan struct{} // slot of one: there are new holds, or there is an end
	done chan struct{} // slot of one: there are verdicts

	mu       sync.Mutex // guards what follows
	holds    []*hold
	verdicts []verdict
}

func newVerifier() *verifier {
	return &verifier{more: make(chan struct{}, 1), done: make(chan struct{}, 1)}
}

// set says which holds to ask about from now on.
func (v *verifier) set(holds []*hold) {
	v.mu.Lock()
	v.holds = holds
	v.mu.Unlock()
	signal(v.more)
}

// take returns the verdicts since the last call.
func (v *verifier) take() []verdict {
	v.mu.Lock()
	defer v.mu.Unlock()
	verdicts := v.verdicts
	v.verdicts = nil
	return verdicts
}

func signal(slot chan struct{}) {
	select {
	case slot <- struct{}{}:
	default:
	}
}

// run asks in rounds until ctx ends.
func (v *verifier) run(ctx context.Context, w *Watcher) {
	timer := time.NewTimer(verifyEvery)
	defer timer.Stop()
	for {
		v.mu.Lock()
		holds := v.holds
		v.mu.Unlock()
		if len(holds) > 0 {
			v.round(ctx, w, holds)
			timer.Reset(verifyEvery)
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-v.more:
		case <-ctx.Done():
			return
		}
	}
}

func (v *verifier) round(ctx context.Context, w *Watcher, holds []*hold) {
	var alive func(int64) (bool, error)
	if w.cfg.LeaseAlive != nil {
		alive = once(func(id int64) (bool, error) { return w.cfg.LeaseAlive(ctx, id) })
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, verifyMany)
	for _, h := range holds {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			found := w.judge(ctx, h, alive)
			if ctx.Err() != nil {
				return
			}
			v.mu.Lock()
			v.verdicts = append(v.verdicts, found)
			v.mu.Unlock()
			signal(v.done)
		})
	}
}

// once asks f once for each lease, however many keys hang on it.
func once(f func(int64) (bool, error)) func(int64) (bool, error) {
	var mu sync.Mutex
	asked := make(map[int64]func() (bool, error))
	return func(id int64) (bool, error) {
		mu.Lock()
		ask := asked[id]
		if ask == nil {
			ask = sync.OnceValues(func() (bool, error) { return f(id) })
			asked[id] = ask
		}
		mu.Unlock()
		return ask()
	}
}
