// This file runs once per request.

package portable

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"muster/proxy/balance"
)

// answer gives the client an answer that is made here.
func (x *exchange) answer(kind balance.Kind) {
	x.record.Why = kind
	if x.service == nil {
		x.conn.engine.Tally.Add(kind)
	}
	if kind == balance.ClientGone {
		return // nobody reads it
	}
	a := kind.Answer()
	a.Reason = cmp.Or(x.record.Reason, a.Reason)
	x.closing = x.closing || x.body.kind != balance.OK || kind == balance.BodyLong
	text, media := a.Reason+"\n\nRequest "+x.record.RequestID+"\n", "text/plain"
	if x.req.PrefersHTML(x.head) {
		text, media = page(a, x.record.RequestID), "text/html"
	}
	p := x.appendStatus(nil, a.Status)
	p = append(p, "Content-Type: "+media+"; charset=utf-8\r\nCache-Control: no-store\r\n"...)
	if !x.conn.how.Quiet {
		p = append(p, "Proxy-Status: "+a.ProxyStatus()+"\r\n"...)
	}
	switch kind {
	case balance.MethodDenied:
		p = append(p, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	case balance.Busy, balance.ManyConns:
		p = append(p, "Retry-After: 1\r\n"...)
	}
	x.made(p, a.Status, text)
}

// options answers what is asked of the proxy itself.
func (x *exchange) options() { x.made(x.appendStatus(nil, http.StatusOK), http.StatusOK, "") }

func (x *exchange) appendStatus(p []byte, status int) []byte {
	p = append(p, "HTTP/1.1 "...)
	p = strconv.AppendInt(p, int64(status), 10)
	p = append(p, ' ')
	p = append(p, http.StatusText(status)...)
	return append(p, "\r\n"...)
}

// made finishes an answer that is made here, and writes it.
func (x *exchange) made(p []byte, status int, text string) {
	if b := &x.body; !x.closing && !b.over {
		b.lost = true
		_, _, f := b.take(&x.conn.in) // what has come already
		x.closing = f != 0 || !b.over
	}
	x.closing = x.closing || x.conn.draining.Load()
	p = append(p, "Date: "...)
	p = append(p, x.conn.engine.date.now(time.Now())...)
	p = append(p, "\r\nContent-Length: "...)
	p = strconv.AppendInt(p, int64(len(text)), 10)
	switch {
	case x.closing:
		p = append(p, "\r\nConnection: close"...)
	case x.req.KeepAlive:
		p = append(p, "\r\nConnection: keep-alive"...)
	}
	p = append(p, "\r\nX-Request-Id: "...)
	p = append(p, x.id...)
	p = append(p, "\r\n\r\n"...)
	if x.record.Method != "HEAD" {
		p = append(p, text...)
		x.record.Bytes = int64(len(text))
	}
	x.record.Status = status
	x.record.FirstByte = time.Since(x.record.Time)
	if x.toClient(p) != balance.OK && x.record.Why == balance.OK {
		x.record.Why = balance.ClientGone
	}
}

// discard reads what is left of a body that nobody wants, so that the next
// request can be read. It reports whether it came to the end.
func (x *exchange) discard() bool {
	b, c := &x.body, x.conn
	b.lost = true // not to be kept
	now := time.Now()
	end := now.Add(discardTimeout)
	for n := 0; !b.over && n < discardMost; now = time.Now() {
		if c.in.len() == 0 {
			if b.large.len() == 0 {
				b.large.release()
			} else if len(b.large.free()) == 0 {
				b.large.grow(largeBlock)
			}
			got, err := c.sock.read(&b.large, largeBlock, now, end)
			if err == errWoken {
				continue
			}
			if err != nil {
				return false
			}
			n += got
		}
		if _, _, f := b.take(&c.in); f != 0 {
			return false
		}
	}
	return b.over
}
