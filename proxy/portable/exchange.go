// This file runs once per request.

package portable

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"muster/proxy/balance"
)

// An exchange is one request and its answer.
type exchange struct {
	engine   *Engine
	service  *balance.Service // nil where no route matched
	attempts balance.Attempts
	body     *body // nil: the request has none
	upgrade  string

	// The attempt that runs, or whose answer is being passed on.
	upstream *balance.Upstream
	try      *try

	record *balance.Record
	tunnel bool
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// ServeHTTP forwards one request.
func (e *Engine) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	e.inFlight.Add(1)
	x := &exchange{engine: e, record: newRecord(r)}
	w := &writer{ResponseWriter: rw, rc: http.NewResponseController(rw), x: x, proto10: !r.ProtoAtLeast(1, 1)}
	defer func() { x.end(w, recover()) }()

	kind := x.match(r)
	if kind != balance.OK {
		x.answer(w, kind)
		return
	}
	x.service.Stats.Begin()
	x.attempts = x.service.Attempts(r.Method)
	x.upgrade = keepUpgrade(r)
	w.rc.EnableFullDuplex() // only HTTP/1 needs it; others refuse
	if r.Body != nil && r.Body != http.NoBody {
		x.body = newBody(r, w.rc)
	}
	e.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// match finds the service, or the kind of answer that is given without one.
func (x *exchange) match(r *http.Request) balance.Kind {
	table := x.engine.Table.Load()
	switch {
	case r.ProtoMajor != 1:
		return balance.BadVersion
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace, r.Method == "TRACK":
		return balance.MethodDenied // a tunnel; what shows credentials
	case !goodTarget(r):
		return balance.BadTarget
	case table == nil || !table.Ready():
		return balance.NotReady
	}
	if x.service = table.Match(r.Host, rawPath(r)); x.service == nil {
		return balance.NoRoute
	}
	x.record.Service = x.service.Name
	return balance.OK
}

// answer gives the client an error answer.
func (x *exchange) answer(w *writer, kind balance.Kind) {
	x.record.Why = kind
	if x.service == nil {
		x.engine.Tally.Add(kind)
	}
	if kind == balance.ClientGone || w.status != 0 {
		panic(http.ErrAbortHandler) // nobody reads it, or another answer has begun
	}
	a := kind.Answer()
	text := a.Reason + "\n\nRequest " + x.record.RequestID + "\n"
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("Cache-Control", "no-store")
	h.Set("Proxy-Status", a.ProxyStatus())
	h.Set("X-Request-Id", x.record.RequestID)
	switch kind {
	case balance.MethodDenied:
		h.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		fallthrough
	case balance.BadVersion, balance.BadTarget, balance.BadRequest, balance.BodyTimeout:
		h.Set("Connection", "close")
	}
	w.WriteHeader(a.Status)
	w.Write([]byte(text))
}

// end accounts for the exchange. problem is what the handler panicked with: the
// connection is given up, and no other.
func (x *exchange) end(w *writer, problem any) {
	defer x.engine.inFlight.Add(-1)
	rec := x.record
	rec.Duration = time.Since(rec.Time)
	rec.Status, rec.Bytes = w.status, w.bytes
	if x.tunnel {
		rec.Status = http.StatusSwitchingProtocols // written behind w's back
	}
	rec.Tries = x.attempts.Tries()
	if problem != nil && problem != http.ErrAbortHandler {
		rec.Why = balance.Internal
		x.engine.panics.Add(1)
		x.engine.Log.Error("a request panicked; its connection is closed", "err", problem, "stack", string(debug.Stack()))
	}
	if problem != nil && rec.Why == balance.OK {
		rec.Why = balance.ClientGone // writing to it ended
	}
	w.done(x.body)
	if x.try != nil {
		x.try.end()
	}
	if x.upstream != nil {
		x.release(rec.Status >= 500 || rec.Why.OfEndpoint())
	}
	if x.service != nil {
		took := rec.Duration
		if x.tunnel || rec.Why == balance.ClientGone {
			took = 0
		}
		x.service.Stats.Done(rec.Status, took)
	}
	if x.engine.Record != nil {
		x.engine.Record(rec)
	}
	if problem != nil {
		panic(http.ErrAbortHandler)
	}
}

// release ends the attempt that runs.
func (x *exchange) release(failed bool) {
	u := x.upstream
	x.upstream = nil
	var took time.Duration
	if !x.tunnel && !failed {
		took = time.Since(x.try.began)
	}
	u.End(took, failed)
	if u.Idle() {
		x.engine.Forget(u)
	}
}

func newRecord(r *http.Request) *balance.Record {
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	return &balance.Record{
		Time: time.Now(), Client: client, Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host,
		Referer: r.Referer(), UserAgent: r.UserAgent(), RequestID: newID(),
	}
}

func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
