// This file runs once per request.

package balance

// How much one request may try. Connecting in vain costs little; sending a
// request that kills whoever reads it costs an endpoint each time.
const (
	maxTries = 8 // upstreams, or connections to them
	maxSends = 3 // of which something was written to
)

// KeptBody is how many bytes of a request's body a driver keeps, so that they
// can be sent again.
const KeptBody = 16 << 10

// A Failure is how an attempt ended without an answer.
type Failure struct {
	Kind     Kind
	Written  bool // at least a byte of the request was written
	Answered bool // at least a byte of an answer came
	Reused   bool // the connection had carried a request before
	BodyKept bool // the whole body can be sent again, or nobody has read from it
}

// Attempts decides for one request where it is sent, first and after each
// failure. It is a value without pointers into the driver; make one with
// [Service.Attempts].
type Attempts struct {
	service    *Service
	idempotent bool
	fresh      bool // a dead connection was made up for already
	current    *Upstream
	tried      [maxTries]*Upstream
	tries      int
	sends      int
}

// Attempts starts a request with that method.
func (s *Service) Attempts(method string) Attempts {
	return Attempts{service: s, idempotent: idempotent(method)}
}

// idempotent reports whether doing a request twice does the same as once (RFC
// 9110, section 9.2.2), for the methods that are sent again.
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

// First returns where the request goes first; nowhere is [NoEndpoint], or [Busy]
// where it is worth to wait: see [Service.Queue].
func (a *Attempts) First() Move {
	if a.service.MaxConns > 0 && a.service.Stats.Queued() > 0 {
		return Move{Kind: Busy} // behind those who wait
	}
	return a.pick(NoEndpoint)
}

// Tries is how many attempts were begun.
func (a *Attempts) Tries() int { return a.tries }

// A Move is what to do after a failure: send the request, which is begun there
// already ([Upstream.Begin]), to To, on a fresh
// connection where Fresh says so, or with a nil To give the answer of Kind.
// Exhausted says that another upstream might be tried, but the service has
// none: one in a newer table may; see [Attempts.Renew].
type Move struct {
	To        *Upstream
	Fresh     bool
	Exhausted bool
	Kind      Kind
}

// Next decides what follows a failure:
//   - nothing of the request was written: another upstream, whatever the method;
//   - the connection ended before a byte of an answer, the method is idempotent
//     and the body was kept: another upstream;
//   - in both cases, if the connection had been used before, first the same
//     upstream once more on a fresh one: it may only have been idle for too long;
//   - anything else: the answer for that failure.
func (a *Attempts) Next(f Failure) Move {
	if f.Written {
		a.sends++
	}
	if !a.mayRepeat(f) {
		return Move{Kind: f.Kind}
	}
	if f.Reused && !a.fresh && a.current.State() == Up {
		a.fresh = true
		if u := a.current; u.Begin(a.service.MaxConns) {
			return Move{To: a.take(u), Fresh: true}
		}
	}
	return a.pick(f.Kind)
}

// Renew goes on with newer, the same service in a newer table. What was tried
// and sent counts on.
func (a *Attempts) Renew(newer *Service, kind Kind) Move {
	a.service = newer
	return a.pick(kind)
}

func (a *Attempts) pick(kind Kind) Move {
	s := a.service
	for {
		u := s.Pick(a.tried[:a.tries])
		switch {
		case u == nil && a.tries == 0 && s.MaxConns > 0 && s.busy():
			return Move{Kind: Busy}
		case u == nil:
			return Move{Exhausted: true, Kind: kind}
		case u.Begin(s.MaxConns):
			return Move{To: a.take(u), Kind: kind}
		}
	}
}

func (a *Attempts) mayRepeat(f Failure) bool {
	switch f.Kind {
	case Refused, Unroutable, NoName, ConnectTimeout, TLSFailed, TLSCertificate, NotProxied, Terminated:
	default:
		return false
	}
	if f.Answered || !f.BodyKept || a.tries == maxTries || a.sends == maxSends {
		return false
	}
	return !f.Written || a.idempotent
}

func (a *Attempts) take(u *Upstream) *Upstream {
	a.tried[a.tries] = u
	a.tries++
	a.current = u
	return u
}
