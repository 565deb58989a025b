// This file runs once per request.

package balance

import (
	"sync/atomic"
	"time"
)

// A State is what an upstream may be asked, as its endpoint was announced.
// Whether a probe finds it failing is kept apart; see [Upstream.SetFailing].
type State uint32

// Only Up gets new requests. Running requests finish in every state.
const (
	Up State = iota
	Starting
	Draining
	Leaving // gone from the plan
	Gone    // and forgotten: should it come back, that is another upstream
)

func (s State) String() string {
	return [...]string{"up", "starting", "draining", "leaving", "gone"}[s]
}

// An Upstream is the running state of one endpoint: what it may be asked, what
// it is doing and what it did. It outlives the tables that name it. One with a
// name and an address only is [Up] and has done nothing yet.
type Upstream struct {
	Service, ID, Addr string
	Proto             string // as announced; http where empty

	inFlight atomic.Int64
	state    atomic.Uint32
	failing  atomic.Pointer[string] // why the probe fails; nil: it does not

	requests, errors atomic.Uint64
	latency          atomic.Pointer[Histogram] // made for the first request
}

// State is what the upstream may be asked, as announced.
func (u *Upstream) State() State { return State(u.state.Load()) }

// SetState holds from the next choice on, in every table.
func (u *Upstream) SetState(s State) { u.state.Store(uint32(s)) }

// SetFailing says why the upstream fails its probe; "" that it passes.
func (u *Upstream) SetFailing(reason string) {
	if reason == "" {
		u.failing.Store(nil)
	} else {
		u.failing.Store(&reason)
	}
}

// Failing is the reason of the last SetFailing.
func (u *Upstream) Failing() string {
	if r := u.failing.Load(); r != nil {
		return *r
	}
	return ""
}

// Begin counts a request that is now sent to the upstream, unless most of them
// are running; zero: there may be any number.
func (u *Upstream) Begin(most int) bool {
	if most == 0 {
		u.inFlight.Add(1)
	} else {
		for {
			n := u.inFlight.Load()
			if n >= int64(most) {
				return false
			}
			if u.inFlight.CompareAndSwap(n, n+1) {
				break
			}
		}
	}
	u.requests.Add(1)
	return true
}

// End counts the end of what Begin began. took is zero where the time says
// nothing about the upstream (a tunnel, a client that went away).
func (u *Upstream) End(took time.Duration, failed bool) {
	u.inFlight.Add(-1)
	if failed {
		u.errors.Add(1)
	}
	if took <= 0 {
		return
	}
	h := u.latency.Load()
	if h == nil {
		u.latency.CompareAndSwap(nil, new(Histogram))
		h = u.latency.Load()
	}
	h.Observe(took)
}

// InFlight is the number of requests that are running.
func (u *Upstream) InFlight() int64 { return u.inFlight.Load() }

// Idle reports that the upstream left and nothing runs on it any more: what a
// driver holds for it can go.
func (u *Upstream) Idle() bool { return u.State() == Leaving && u.inFlight.Load() == 0 }

// Requests is how often a request was sent, retries included.
func (u *Upstream) Requests() uint64 { return u.requests.Load() }

// Errors is how many of those got no answer or a 5xx.
func (u *Upstream) Errors() uint64 { return u.errors.Load() }

// Latency is the histogram of answers, or nil before the first.
func (u *Upstream) Latency() *Histogram { return u.latency.Load() }
