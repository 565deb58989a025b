// This file runs once per request.

package portable

import (
	"sync"
	"time"
	"unsafe"

	"muster/proxy/balance"
	"muster/proxy/http1"
)

// An exchange is one request and its answer. Its goroutine is the connection's;
// what the helper touches is said in helper.go.
type exchange struct {
	conn   *conn
	req    http1.Request
	head   []byte // the request's, as it came; in conn.in
	record balance.Record
	id     []byte   // of the request
	ownID  [32]byte // an id that is made here
	begun  bool
	ended  bool
	hop    http1.Hop
	reply  http1.Reply

	service  *balance.Service // nil where no route matched
	attempts balance.Attempts
	path     string // of the request; in head

	// The attempt that runs, or whose answer is being passed on.
	upstream *balance.Upstream
	pool     *pool
	up       *upstream
	tried    time.Time // when it began
	base     time.Time // from when on the upstream is silent
	now      time.Time // about the time: as it was when the last wait ended
	silence  time.Duration

	body upload

	// The answer.
	in       buffer  // read from the upstream, and not used yet
	res      *answer // from its first byte on
	finAt    time.Time
	began    bool // its head went to the client
	closing  bool // the client's connection ends with it
	expects  bool // the client waits for a 100
	tunnel   bool
	heard    bool // a byte came in this attempt
	interims int
	interimN int // bytes of them

	helper helper
}

// An answer is what an upstream's answer is read with.
type answer struct {
	http1.Response
	chunks http1.Chunks
	out    []byte // the head that goes to the client
	tail   []byte // what comes behind a piece of the body
	names  []byte // of the trailer fields that are passed on
	ended  bool   // a body until close
}

var (
	exchanges = sync.Pool{New: func() any {
		x := new(exchange)
		x.helper.run = x.help
		x.helper.done = make(chan struct{}, 1)
		return x
	}}
	answers = sync.Pool{New: func() any { return new(answer) }}
)

func newExchange(c *conn) *exchange {
	x := exchanges.Get().(*exchange)
	x.conn = c
	x.req.Rules = c.rules
	x.req.Reset()
	return x
}

// free gives up what x holds. Nothing of the head may be used any more.
func (x *exchange) free() {
	x.body.finish(&x.conn.in)
	x.in.release()
	if x.res != nil {
		x.res.ended = false
		answers.Put(x.res)
	}
	x.conn, x.head, x.path, x.id = nil, nil, "", nil
	x.service, x.upstream, x.pool, x.up, x.res = nil, nil, nil, nil, nil
	x.begun, x.ended, x.began, x.closing, x.expects, x.tunnel, x.heard = false, false, false, false, false, false, false
	x.interims, x.interimN = 0, 0
	exchanges.Put(x)
}

// text is a part of the head, as long as that is there.
func (x *exchange) text(s http1.Span) string { return view(s.In(x.head)) }

func view(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }

// begin counts the request. Its head is there, or as much of it as was right.
func (x *exchange) begin() {
	x.conn.engine.inFlight.Add(1)
	x.begun = true
	x.now = x.conn.now
	if x.id = x.req.RequestID.In(x.head); len(x.id) == 0 {
		newID(&x.ownID)
		x.id = x.ownID[:]
	}
	client := x.conn.peer
	if r := x.conn.rules; r != nil && r.Trusted {
		client = x.toldClient()
	}
	x.record = balance.Record{
		Time: x.now, Head: x.now.Sub(x.conn.began), Client: client, Peer: x.conn.peer, Method: x.text(x.req.Method), Target: x.text(x.req.Target), Proto: x.text(x.req.Version),
		Host: x.text(x.req.Authority), Referer: x.text(x.req.Referer), UserAgent: x.text(x.req.UserAgent), RequestID: view(x.id),
	}
}

// run forwards the request and answers it. It reports whether the connection
// goes on.
func (x *exchange) run() bool {
	x.begin()
	x.body.begin(x)
	if x.conn.many {
		x.closing = true
		x.answer(balance.ManyConns)
		return x.end()
	}
	x.closing = x.req.Close || x.conn.isLast()
	x.expects = x.req.Expect
	switch kind := x.match(); {
	case kind != balance.OK:
		x.answer(kind)
		return x.end()
	case x.service == nil:
		x.options()
		return x.end()
	}
	x.service.Stats.Begin()
	if most := x.service.MaxBody; most > 0 {
		if x.req.Length > most {
			x.answer(balance.BodyLong)
			return x.end()
		}
		x.body.most = most
	}
	x.attempts = x.service.Attempts(x.record.Method)
	x.forward()
	return x.end()
}

// refuse answers a request whose head has a fault.
func (x *exchange) refuse(f http1.Fault) {
	x.begin()
	x.closing = true
	x.record.Reason, x.record.Offset = f.Reason(), x.req.Offset()
	x.answer(kindOf(f))
	x.end()
}

// match finds the service, or the kind of answer that is given without one. None
// and OK is a question to the proxy itself.
func (x *exchange) match() balance.Kind {
	switch {
	case x.req.Looped:
		return balance.Loop
	case x.req.Trace && !x.conn.how.Trace:
		return balance.MethodDenied
	case x.req.Asterisk || x.req.Final:
		return balance.OK
	}
	table := x.conn.engine.Table.Load()
	if table == nil || !table.Ready() {
		return balance.NotReady
	}
	if x.path = x.text(x.req.Path); x.path == "" {
		x.path = "/"
	}
	if x.req.Dotted {
		x.path = string(http1.AppendResolved(nil, x.req.Path.In(x.head)))
	}
	if x.service = table.Match(x.record.Host, x.path); x.service == nil {
		return balance.NoRoute
	}
	x.record.Service = x.service.Name
	return balance.OK
}

// renew takes the exchange's service from the newest table, and reports whether
// that is another one than before.
func (x *exchange) renew() bool {
	service := x.conn.engine.Table.Load().Match(x.record.Host, x.path)
	if service == nil || service == x.service || service.Name != x.service.Name {
		return false
	}
	x.service = service
	return true
}

// forward sends the request to one upstream after another, as long as package
// balance says so, and passes the answer on.
func (x *exchange) forward() {
	move := x.attempts.First()
	if move.Kind == balance.Busy {
		move = x.queue()
	}
	for {
		if move.To == nil && move.Exhausted && x.renew() {
			// The table was swapped meanwhile: who left may have a successor.
			move = x.attempts.Renew(x.service, move.Kind)
		}
		if move.To == nil {
			x.answer(move.Kind)
			return
		}
		if x.attempts.Tries() > 1 {
			x.service.Stats.Retry()
		}
		f := x.attempt(move)
		if f.Kind == balance.OK {
			return
		}
		x.now = time.Now()
		x.release(f.Kind.OfEndpoint())
		move = x.attempts.Next(f)
	}
}

// end accounts for the request. It reports whether the connection goes on.
func (x *exchange) end() bool {
	c := x.conn
	rec := &x.record
	c.now = time.Now()
	rec.Duration = c.now.Sub(rec.Time)
	if x.upstream != nil {
		x.release(rec.Status >= 500 || rec.Why.OfEndpoint())
	}
	if x.service != nil {
		rec.Tries = x.attempts.Tries()
		took := rec.Duration
		if x.tunnel || rec.Why == balance.ClientGone {
			took = 0
		}
		x.service.Stats.Done(rec.Status, took)
	}
	if c.engine.Record != nil {
		c.engine.Record(rec)
	}
	x.ended = true
	c.engine.inFlight.Add(-1)
	return x.goesOn()
}

// goesOn reports whether another request may come; if not, the connection is
// brought to its end here.
func (x *exchange) goesOn() bool {
	c := x.conn
	switch {
	case x.tunnel || x.record.Why == balance.ClientGone || x.record.Status == 0:
		return false
	case x.began && x.record.Why != balance.OK: // cut off, and it has to show
		if x.res.Framing(x.req.Minor) == http1.UntilClose {
			c.sock.reset() // a clean end would look complete
		}
		return false
	case x.body.kind != balance.OK:
		c.linger()
		return false
	case x.closing || x.helper.fin || !x.body.over && !x.discard():
		c.linger()
		return false
	}
	return true
}

// abandon accounts for a request that panicked.
func (x *exchange) abandon() {
	x.dropUpstream()
	x.helper.stop(x)
	if x.begun && !x.ended {
		x.record.Why = balance.Internal
		x.conn.sock.reset()
		x.record.Status = 0
		defer func() {
			if recover() != nil && !x.ended {
				x.ended = true
				x.conn.engine.inFlight.Add(-1)
			}
		}()
		x.end()
	}
}

// release ends the attempt that runs.
func (x *exchange) release(failed bool) {
	u := x.upstream
	x.dropUpstream()
	x.upstream = nil
	var took time.Duration
	if !x.tunnel && !failed {
		took = x.now.Sub(x.tried)
	}
	u.End(took, failed)
	x.service.Freed()
	if u.State() == balance.Gone {
		x.conn.engine.Forget(u)
	}
}

// dropUpstream closes the connection to the upstream, if there is one.
func (x *exchange) dropUpstream() {
	if x.up == nil {
		return
	}
	x.up.Close()
	x.helper.stop(x)
	x.conn.attach(nil)
	x.up = nil
}

// handBack gives the connection to the upstream back, now that the answer has
// been read; release closes it where it can't be used again. It reports false
// while the request is still being sent.
func (x *exchange) handBack() bool {
	if x.helper.uploading.Load() {
		return false
	}
	x.helper.stop(x)
	res := x.res
	if !x.body.over || x.helper.broken.Load() || x.helper.gone.Load() || res.Close || res.Body == http1.UntilClose || x.in.len() > 0 ||
		x.upstream.State() >= balance.Leaving {
		return true
	}
	x.conn.attach(nil)
	x.pool.put(x.up, x.now)
	x.up = nil
	return true
}

// settle waits, once the answer is complete and the request is not, for the
// helper to end what it is just doing.
func (x *exchange) settle() {
	h := &x.helper
	h.stopping.Store(true)
	x.conn.sock.wake()
	select {
	case <-h.done:
	case <-time.After(settleTime):
		x.up.Close()
		<-h.done
	}
	h.running = false
	x.handBack()
}
