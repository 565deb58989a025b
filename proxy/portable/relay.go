// This file runs once per request.

package portable

import (
	"bytes"
	"time"

	"muster/proxy/balance"
	"muster/proxy/http1"
)

// start passes on the head of the final answer, and what follows.
func (x *exchange) start(head []byte) balance.Kind {
	res, c := x.res, x.conn
	if res.Status == 101 {
		asked := x.req.Upgrade.In(x.head)
		if len(asked) == 0 || !bytes.EqualFold(res.Upgrade.In(head), asked) {
			return balance.UpgradeFailed
		}
		return x.switchOver(head)
	}
	if res.Events {
		x.silence = x.service.Stream
	}
	x.prepareReply()
	uploading := x.helper.uploading.Load()
	switch {
	case x.expects && uploading: // nobody knows whether the body comes, and from here on it is not one
		x.closing = true
		x.expects = false
		x.helper.stopping.Store(true)
		c.sock.wake()
	case x.helper.broken.Load(), uploading && (res.Close || res.Body == http1.UntilClose): // the rest has nowhere to go
		x.closing = true
	case res.Framing(x.req.Minor) == http1.UntilClose:
		x.closing = true
	}
	x.closing = x.closing || c.draining.Load() || x.helper.fin
	x.reply.Close = x.closing
	x.reply.KeepAlive = x.req.KeepAlive && !x.closing
	res.out = res.AppendHead(res.out[:0], head, &x.reply)
	res.names = res.names[:0]
	if res.Body == http1.Chunked {
		res.chunks.Reset()
		if x.req.Trailers {
			res.names = res.AppendAnnounced(res.names, head)
		}
	}
	x.record.Status = res.Status
	x.record.FirstByte = x.now.Sub(x.record.Time)
	x.began = true
	return x.relay(res.out)
}

// prepareReply says what does not depend on the answer.
func (x *exchange) prepareReply() {
	x.reply = http1.Reply{
		Minor: x.req.Minor, Trailers: x.req.Trailers, RequestID: x.id, Date: x.conn.engine.date.now(x.record.Time),
		Via: x.conn.how.Rules.Via, Tells: x.conn.how.Tells,
	}
}

// relay passes the body on as it comes, with first, the head, in front.
func (x *exchange) relay(first []byte) balance.Kind {
	res := x.res
	left := res.Length
	for {
		start, end, done, kind := x.piece(&left)
		if kind != balance.OK {
			if len(first) > 0 {
				x.toClient(first)
			}
			return kind
		}
		out := first
		if end > start {
			// The head goes where the endpoint's was.
			if at := start - len(first); at >= 0 {
				copy(x.in.p[at:], first)
				start = at
			} else if kind := x.toClient(first); kind != balance.OK {
				return kind
			}
			if n := len(res.tail); n > 0 && end+n <= len(x.in.p) {
				end += copy(x.in.p[end:], res.tail)
				res.tail = res.tail[:0]
			}
			out = x.in.p[start:end]
		} else if len(res.tail) > 0 {
			res.out = append(res.out[:len(first)], res.tail...)
			res.tail = res.tail[:0]
			out = res.out
		}
		first = nil
		back := done && x.handBack()
		if len(out) > 0 {
			if kind := x.toClient(out); kind != balance.OK {
				return kind
			}
		}
		if len(res.tail) > 0 {
			if kind := x.toClient(res.tail); kind != balance.OK {
				return kind
			}
		}
		if done {
			if !back {
				x.settle()
			}
			return balance.OK
		}
		if x.in.len() == 0 {
			x.in.release()
		} else if len(x.in.free()) == 0 {
			x.in.grow(x.in.len()) // the begin of a trailer section
		}
		x.base = time.Now()
		kind, eof := x.readUp()
		switch {
		case kind == balance.OK:
		case eof && res.Body == http1.UntilClose:
			res.ended = true
		case kind == balance.Terminated:
			return balance.Incomplete
		case kind == balance.Silent:
			return balance.ReadTimeout
		default:
			return kind
		}
	}
}

// piece makes of what came what the client gets: x.in.p[start:end], and behind
// it res.tail. Done says that it is the last.
func (x *exchange) piece(left *int64) (start, end int, done bool, kind balance.Kind) {
	res := x.res
	in := &x.in
	framing := res.Framing(x.req.Minor)
	res.tail = res.tail[:0]
	switch res.Body {
	case http1.None:
		return 0, 0, true, balance.OK
	case http1.Sized:
		n := int(min(int64(in.len()), *left))
		start, end = in.r, in.r+n
		in.r += n
		*left -= int64(n)
		x.record.Bytes += int64(n)
		return start, end, *left == 0, balance.OK
	case http1.UntilClose:
		start, end = in.r, in.w
		in.r = in.w
		done = res.ended
		if done {
			res.tail = append(res.tail, lastChunk...)
		}
	case http1.Chunked:
		if in.len() == 0 {
			return 0, 0, false, balance.OK
		}
		var f http1.Fault
		if start, end, f = squeeze(&res.chunks, in, &res.tail, res.names); f != 0 {
			x.record.Reason = f.Reason()
			return 0, 0, false, balance.BadCoding
		}
		done = res.chunks.Done()
	}
	x.record.Bytes += int64(end - start)
	if framing != http1.Chunked {
		res.tail = res.tail[:0]
	} else if end > start {
		start, end = wrap(in.p, start, end)
	}
	return start, end, done, balance.OK
}

var lastChunk = []byte("0\r\n\r\n")
