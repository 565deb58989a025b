// This file runs once per request.

package portable

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"muster/proxy/balance"
)

// streamSilence is how long an endpoint may be silent inside an event stream.
const streamSilence = time.Hour

// A failure is the error of a request that no upstream answered.
type failure struct{ kind balance.Kind }

func (f failure) Error() string { return f.kind.Answer().Reason }

// RoundTrip sends the request to one upstream after another, as long as package
// balance says so.
func (e *Engine) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	move := x.attempts.First()
	for {
		if move.To == nil && move.Exhausted && x.renew(r) {
			// The table was swapped meanwhile: who left may have a successor.
			move = x.attempts.Renew(x.service, move.Kind)
		}
		if move.To == nil {
			return nil, failure{move.Kind}
		}
		if x.attempts.Tries() > 1 {
			x.service.Stats.Retry()
		}
		res, f := x.send(r, move)
		if f.Kind == balance.OK {
			return res, nil
		}
		x.release(f.Kind.OfEndpoint())
		move = x.attempts.Next(f)
	}
}

// renew takes the exchange's service from the newest table, and reports whether
// that is another one than before.
func (x *exchange) renew(r *http.Request) bool {
	newest := x.engine.Table.Load()
	service := newest.Match(r.Host, rawPath(r))
	if service == nil || service == x.service || service.Name != x.service.Name {
		return false
	}
	x.service = service
	return true
}

// send makes one attempt.
func (x *exchange) send(r *http.Request, move balance.Move) (*http.Response, balance.Failure) {
	u := move.To
	u.Begin()
	x.upstream = u
	x.record.Endpoint, x.record.Addr = u.ID, u.Addr
	t := &try{began: time.Now(), connect: x.service.Connect, silence: x.service.Response, client: r.Context()}
	x.try = t
	if u.Proto != "" && u.Proto != "http" && u.Proto != "https" {
		return nil, balance.Failure{Kind: balance.NotProxied, BodyKept: x.body.whole()}
	}
	pool := x.engine.pool(u)
	transport := pool.reuse
	if move.Fresh {
		transport = pool.fresh
	}
	res, err := transport.RoundTrip(t.request(r, x, pool.scheme, u.Addr))
	if err != nil {
		t.end()
		kind := x.body.problem()
		if kind == balance.OK {
			kind = t.classify(err)
		}
		return nil, balance.Failure{
			Kind: kind, Written: t.wrote(), Answered: t.answered.Load(), Reused: t.reused(), BodyKept: x.body.whole(),
		}
	}
	t.stop()
	if res.StatusCode == http.StatusSwitchingProtocols {
		c := t.carrier.Load().conn
		c.tunnel.Store(true)
		c.SetWriteDeadline(time.Time{})
		return res, balance.Failure{}
	}
	a := &answer{res.Body, x, t.silence}
	if kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";"); strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
		a.silence = streamSilence
	}
	res.Body = a
	return res, balance.Failure{}
}

// A try is one attempt as it looks from the wire. The hooks of httptrace run on
// the goroutines of a transport.
type try struct {
	began   time.Time
	connect time.Duration
	silence time.Duration
	client  context.Context
	cancel  context.CancelCauseFunc
	sent    *sending

	carrier  atomic.Pointer[carrier] // nil before there is a connection
	answered atomic.Bool
	silent   atomic.Bool
	interims atomic.Int32

	timer *time.Timer // ends the attempt when the upstream is silent
	mu    sync.Mutex  // guards what follows, and timer until the head is done

	sentAll, headDone bool
}

// A carrier is the connection that an attempt goes by.
type carrier struct {
	conn   *conn
	start  int64 // bytes written to it before
	reused bool
}

// tryKey is where the context of an attempt has its try.
type tryKey struct{}

var (
	errSilent = errors.New("the upstream is silent")
	errAgain  = errors.New("a transport may not repeat a request by itself")
	errFlood  = errors.New("too many interim answers")
)

// request is what the transport is given.
func (t *try) request(r *http.Request, x *exchange, scheme, addr string) *http.Request {
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), tryKey{}, t))
	t.cancel = cancel
	t.timer = time.AfterFunc(time.Hour, func() {
		t.silent.Store(true)
		cancel(errSilent)
	})
	t.timer.Stop()
	out := r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              t.getConn,
		GotConn:              t.gotConn,
		WroteRequest:         t.wroteRequest,
		GotFirstResponseByte: t.firstByte,
	}))
	url := *r.URL
	url.Scheme, url.Host = scheme, addr
	out.URL = &url
	out.Body, out.GetBody = nil, nil
	if x.body != nil {
		t.sent = &sending{body: x.body}
		out.Body = t.sent
	}
	return out
}

// getConn begins the search for a connection, and begins it again where a
// transport could write nothing to the first.
func (t *try) getConn(string) {
	if !t.wrote() {
		t.carrier.Store(nil)
	}
}

// gotConn notes what carries the attempt. A transport that calls it again wants
// to repeat the request by itself: that is not its decision, unless nothing was
// written. Mostly dial has seen to that before.
func (t *try) gotConn(info httptrace.GotConnInfo) {
	c := counted(info.Conn)
	if t.wrote() {
		c.refuse.Store(true)
		t.cancel(errAgain)
		return
	}
	t.carrier.Store(&carrier{c, c.written.Load(), info.Reused})
	c.try.Store(t)
}

// wrote reports that a byte of the request went out.
func (t *try) wrote() bool {
	c := t.carrier.Load()
	return c != nil && c.conn.written.Load() > c.start
}

// reused reports that the connection had carried a request before.
func (t *try) reused() bool {
	c := t.carrier.Load()
	return c != nil && c.reused
}

// wroteRequest starts the time in which an answer has to begin: before, it is
// the client that is waited for.
func (t *try) wroteRequest(info httptrace.WroteRequestInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sentAll = info.Err == nil; t.sentAll && !t.headDone {
		t.timer.Reset(t.silence)
	}
}

// uploadGrace is how long a client may take to go on with its body when the
// upstream has hung up without an answer.
const uploadGrace = time.Second

// hungUp is called when nothing can be read from the upstream any more.
func (t *try) hungUp() {
	if t.sent != nil && !t.answered.Load() {
		time.AfterFunc(uploadGrace, t.sent.breakOff)
	}
}

func (t *try) firstByte() {
	t.answered.Store(true)
	t.heard()
}

// maxInterim is how many 1xx a request may get.
const maxInterim = 16

// interim counts a 1xx; too many end the attempt.
func (t *try) interim() {
	t.heard()
	if t.interims.Add(1) > maxInterim {
		t.cancel(errFlood)
	}
}

// heard starts the time anew in which the rest of the head has to come.
func (t *try) heard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sentAll && !t.headDone {
		t.timer.Reset(t.silence)
	}
}

// stop ends the wait for a head. The timer belongs to the answer's body then.
func (t *try) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.headDone = true
	t.timer.Stop()
}

// end gives up what the attempt holds.
func (t *try) end() {
	if t.cancel == nil {
		return
	}
	t.stop()
	if t.sent != nil {
		t.sent.Close()
	}
	t.cancel(context.Canceled)
}

// An answer is the body of an upstream's answer. The time that counts as silence
// runs only while it is being read from.
type answer struct {
	io.ReadCloser
	x       *exchange
	silence time.Duration
}

func (a *answer) Read(p []byte) (int, error) {
	t := a.x.try
	t.timer.Reset(a.silence)
	n, err := a.ReadCloser.Read(p)
	t.timer.Stop()
	if err != nil && err != io.EOF && a.x.record.Why == balance.OK {
		switch {
		case t.silent.Load():
			a.x.record.Why = balance.ReadTimeout
		case t.client.Err() != nil:
			a.x.record.Why = balance.ClientGone
		case a.x.body.problem() != balance.OK:
			a.x.record.Why = a.x.body.problem()
		default:
			a.x.record.Why = balance.Incomplete
		}
	}
	return n, err
}
