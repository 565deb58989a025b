// This file runs once per request.

package portable

import (
	"io"
	"time"

	"muster/proxy/balance"
	"muster/proxy/http1"
)

// attempt sends the request to one upstream. Once the head of an answer was
// passed on, the request is over, whatever happens then.
func (x *exchange) attempt(move balance.Move) balance.Failure {
	u := move.To
	x.upstream = u
	x.record.Endpoint, x.record.Addr = u.ID, u.Addr
	x.tried, x.silence, x.heard = x.now, x.service.Response, false
	x.helper.reset()
	if !Speaks(u.Proto) {
		return x.failed(balance.NotProxied, false)
	}
	if kind := x.buildRequest(u); kind != balance.OK {
		return x.failed(kind, false)
	}
	n, err := 0, errStale
	for err == errStale {
		x.dropUpstream()
		if kind := x.connect(move); kind != balance.OK {
			return x.failed(kind, false)
		}
		n, err = x.send()
	}
	switch {
	case isTimeout(err):
		return x.failed(balance.Silent, n > 0)
	case err != nil && n == 0:
		return x.failed(balance.Terminated, false)
	case err != nil:
		x.helper.broken.Store(true) // and yet there may be an answer
	case !x.body.over:
		x.startHelper()
	}
	kind := x.receive()
	if kind != balance.OK && x.conn.cutting.Load() {
		kind = balance.ClientGone // nobody's doing but ours
	}
	if x.began {
		if kind != balance.OK {
			x.record.Why = kind
		}
		return balance.Failure{}
	}
	return x.failed(kind, true)
}

// Speaks reports whether requests can be sent to an endpoint that announces
// proto, which is HTTP/1.1 where it is empty.
func Speaks(proto string) bool { return proto == "" || proto == "http" || proto == "https" }

// send writes the request, as far as it is there. If that is all, it waits for
// the answer.
func (x *exchange) send() (n int, err error) {
	out := &x.body.out
	whole := out.len()
	x.base = x.now
	if x.body.over {
		// A head alone is made again, should it be sent again: a connection that
		// waits holds as little memory as it can.
		n, err = x.up.ask(out, x.body.framing == http1.None, &x.in, x.now, x.now.Add(watchAfter))
		if x.in.len() > 0 {
			x.heard, x.now = true, time.Now()
		}
	}
	if err != nil || n == whole {
		return n, err
	}
	more, err := x.up.write(out.bytes()[n:], x.silence)
	x.base = time.Now()
	return n + more, err
}

// failed says how an attempt ended that got no answer. The helper has ended
// then, and the connection.
func (x *exchange) failed(kind balance.Kind, written bool) balance.Failure {
	reused := x.up != nil && x.up.reused
	x.dropUpstream()
	x.in.release()
	return balance.Failure{Kind: kind, Written: written, Answered: x.heard, Reused: reused, BodyKept: !x.body.lost}
}

// connect finds a connection.
func (x *exchange) connect(move balance.Move) balance.Kind {
	u, c := move.To, x.conn
	x.pool = c.engine.pool(u)
	if !move.Fresh {
		x.up = x.pool.take()
	}
	x.record.Connect, x.record.Reused = 0, x.up != nil
	if x.up == nil {
		up, err := c.engine.dial(c.base, u, x.service.Connect)
		if err != nil {
			return connecting(err)
		}
		began := x.now
		x.up, x.now = up, time.Now()
		x.record.Connect = x.now.Sub(began)
	}
	c.attach(x.up)
	return balance.OK
}

// buildRequest makes the head, and behind it what has come of the body.
func (x *exchange) buildRequest(u *balance.Upstream) balance.Kind {
	b := &x.body
	hop := &x.hop
	*hop = http1.Hop{Client: x.conn.peer, Scheme: "http", Host: u.Addr, Instead: x.service.Host, RequestID: x.id}
	if x.service.OwnHost {
		hop.Instead = u.Addr
	}
	switch {
	case b.out.len() == 0:
		b.out.hold(smallBlock)
		b.out.grow(len(x.head) + hopRoom)
		b.headLen = x.appendHead(&b.out)
		piece, tail, f := b.take(&x.conn.in)
		if f != 0 {
			b.kind = bodyFault(f)
			x.record.Reason = f.Reason()
			return b.kind
		}
		if b.lost {
			b.out.append(piece)
			b.out.append(tail)
		}
	case x.record.Host == "" || x.service.OwnHost: // each endpoint is its own host
		var again buffer
		again.grow(len(x.head) + hopRoom + b.out.len())
		n := x.appendHead(&again)
		again.append(b.out.bytes()[b.headLen:])
		b.out.release()
		b.out, b.headLen = again, n
	}
	return balance.OK
}

// hopRoom is about what a head grows by; not a limit.
const hopRoom = 512

func (x *exchange) appendHead(to *buffer) int {
	free := to.p[to.w:to.w:len(to.p)]
	head := x.req.AppendHead(free, x.head, &x.hop)
	if len(head) > cap(free) {
		to.append(head)
	} else {
		to.w += len(head)
	}
	return len(head)
}

// receive reads the answer, with all that comes before it, and passes it on.
func (x *exchange) receive() balance.Kind {
	if !x.heard {
		if kind, _ := x.readUp(); kind != balance.OK {
			return kind
		}
	}
	if x.res == nil {
		x.res = answers.Get().(*answer)
	}
	res := x.res
	res.Reset()
	toHead := x.record.Method == "HEAD"
	limits := http1.Limits{Head: x.service.ResponseHead, Fields: http1.MaxResponseFields}
	for {
		for x.in.len() > 0 {
			n, f := res.Parse(x.in.bytes(), limits, toHead)
			if f != 0 {
				x.record.Reason = f.Reason()
				return answerFault(f)
			}
			if n == 0 {
				break
			}
			head := x.in.bytes()[:n]
			x.in.r += n
			if !res.Interim() || res.Status == 101 {
				return x.start(head)
			}
			if kind := x.interim(head); kind != balance.OK {
				return kind
			}
			res.Reset()
		}
		if x.in.len() == 0 {
			x.in.release()
		} else if len(x.in.free()) == 0 {
			x.in.grow(2 * x.in.len())
		}
		if kind, _ := x.readUp(); kind != balance.OK {
			return kind
		}
	}
}

// readUp reads what comes from the upstream. eof is its end, and Terminated.
func (x *exchange) readUp() (kind balance.Kind, eof bool) {
	h := &x.helper
	now := x.base
	for {
		if h.running && !h.watches && !h.uploading.Load() && !h.broken.Load() {
			<-h.done // it has sent all
			h.running = false
			x.base = h.sentAt
		}
		limit := x.limit()
		// Mostly the answer comes at once; only who waits is watched.
		watch := !h.running && !h.fin && x.body.over && !x.expects
		if watch {
			limit = x.base.Add(watchAfter)
		}
		_, err := x.up.read(&x.in, largeBlock, now, limit)
		x.now = time.Now()
		now = x.now
		if err == nil {
			x.heard = true
			return balance.OK, false
		}
		switch {
		case h.gone.Load():
			return x.body.kind, false
		case err == errWoken:
			if h.finished.Load() && !h.fin {
				h.fin, x.finAt = true, now
			}
			if h.broken.Load() {
				x.base = now
			}
		case !isTimeout(err):
			if h.silent.Load() {
				return balance.Silent, false
			}
			return balance.Terminated, err == io.EOF
		case watch:
			x.startHelper()
		case x.expects && h.uploading.Load():
			if !x.sendContinue() {
				return balance.ClientGone, false
			}
		case h.silent.Load():
			return balance.Silent, false
		case h.broken.Load():
			return balance.Terminated, false
		case h.fin && now.Sub(x.base) < x.silence:
			return balance.ClientGone, false
		default:
			return balance.Silent, false
		}
	}
}

// limit is when waiting for the upstream ends. While the client is sending that
// is not what it waits for.
func (x *exchange) limit() time.Time {
	h := &x.helper
	switch {
	case h.uploading.Load() && x.expects:
		return x.base.Add(x.conn.how.Expect)
	case h.uploading.Load() && !h.stopping.Load():
		return time.Time{}
	case h.broken.Load():
		return x.base.Add(uploadGrace)
	}
	limit := x.base.Add(x.silence)
	if h.fin {
		if end := x.finAt.Add(x.conn.how.HalfClose); end.Before(limit) {
			return end
		}
	}
	return limit
}

// interim passes a 1xx on, where it is wanted.
func (x *exchange) interim(head []byte) balance.Kind {
	x.interims++
	x.interimN += len(head)
	if x.interims > maxInterim || x.interimN > maxInterimBytes {
		return balance.BadResponse
	}
	x.base = time.Now()
	switch {
	case x.res.Status == 100:
		if x.expects && !x.sendContinue() {
			return balance.ClientGone
		}
		return balance.OK
	case x.req.Minor == 0:
		return balance.OK
	}
	res := x.res
	res.out = res.AppendHead(res.out[:0], head, &x.reply)
	return x.toClient(res.out)
}

var continueHead = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// sendContinue tells the client to send its body. It reports whether it could.
func (x *exchange) sendContinue() bool {
	x.expects = false
	return x.toClient(continueHead) == balance.OK
}

// toClient writes to the client.
func (x *exchange) toClient(p []byte) balance.Kind {
	if _, err := x.conn.sock.write(p, x.conn.how.Write); err != nil {
		return balance.ClientGone
	}
	return balance.OK
}
