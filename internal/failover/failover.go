// Package failover keeps to one of the addresses of a store while it can.
package failover

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"muster/internal/storeaddr"
)

// ErrLeft is what a session of [Follow] returns when nobody wants more of it.
var ErrLeft = errors.New("the loop left")

// Follow keeps to one of a store's n addresses, and moves to the next when that
// breaks, until ctx ends, a session returns [ErrLeft] or tell returns false.
//
// session connects to one address and follows it until that breaks, which is its
// error; began says that it came as far as a Full Change. tell gets each break
// once, and nothing more until a session has begun again; before the first has
// begun, it gets an error when every address was tried once.
func Follow(ctx context.Context, n int, session func(ctx context.Context, at int) (began bool, err error), tell func(error) bool) {
	told := false    // of the break that is not healed yet
	started := false // once
	var errs []error // of the addresses tried since the last session that began
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, time.Second
	for at := 0; ctx.Err() == nil; at = (at + 1) % n {
		began, err := session(ctx, at)
		if errors.Is(err, ErrLeft) || ctx.Err() != nil {
			return
		}
		if began {
			told, started, errs = false, true, nil
			pause.Reset()
		}
		errs = append(errs, err)
		round := len(errs) >= n
		if !told && (started || round) {
			if told = true; !tell(storeaddr.Together(errs...)) {
				return
			}
		}
		if !round {
			continue // with the next address, at once
		}
		errs = nil
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
		}
	}
}
