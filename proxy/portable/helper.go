// This file runs once per request.

package portable

import (
	"io"
	"sync/atomic"
	"time"

	"muster/proxy/balance"
)

// A helper is the second goroutine of an exchange. It brings the client's body
// upstream. When the request was sent and waits for long, it watches the client:
// it reads what comes, as far as there is room, and learns that the client hangs
// up.
//
// While it runs it alone reads from the client, writes upstream, and has
// exchange.body and conn.in. It tells the exchange by the atomics here, and by
// waking its read from the upstream.
type helper struct {
	run     func() // help, made once
	running bool   // the exchange's; until it has seen done
	watches bool   // likewise: that is what it was started for
	done    chan struct{}

	stopping  atomic.Bool
	uploading atomic.Bool
	sentAt    time.Time   // when uploading ended with all sent; written before that
	broken    atomic.Bool // the upstream takes no more of the body
	finished  atomic.Bool // the client has ended its direction; see fin
	gone      atomic.Bool // the client has gone, or its body will not end
	silent    atomic.Bool // the upstream took nothing for too long

	fin bool // the exchange's: finished was set
}

// startHelper runs the helper.
func (x *exchange) startHelper() {
	h := &x.helper
	h.running, h.watches = true, x.body.over
	h.stopping.Store(false)
	h.uploading.Store(!x.body.over)
	go h.run()
}

// stop ends the helper and waits for it.
func (h *helper) stop(x *exchange) {
	if !h.running {
		return
	}
	if h.watches || h.uploading.Load() {
		h.stopping.Store(true)
		x.conn.sock.wake()
	}
	<-h.done
	h.running = false
}

// reset forgets what the last attempt's helper said. Mostly there was none, and
// looking costs less than writing.
func (h *helper) reset() {
	for _, said := range [...]*atomic.Bool{&h.uploading, &h.broken, &h.finished, &h.gone, &h.silent} {
		if said.Load() {
			said.Store(false)
		}
	}
	h.fin = false
}

// help is the helper's goroutine.
func (x *exchange) help() {
	h := &x.helper
	defer func() {
		if problem := recover(); problem != nil {
			x.conn.engine.panicked(problem)
			x.body.kind = balance.Internal
			h.gone.Store(true)
			x.up.Close()
		}
		h.done <- struct{}{}
	}()
	if h.watches {
		x.watch()
	} else {
		x.upload()
	}
}

// upload brings the rest of the body upstream.
func (x *exchange) upload() {
	h, b, c := &x.helper, &x.body, x.conn
	for {
		if c.in.len() == 0 && x.readBody() != nil || h.stopping.Load() {
			return
		}
		piece, tail, f := b.take(&c.in)
		if f != 0 {
			x.record.Reason, x.record.Offset = f.Reason(), 0
			x.giveUp(bodyFault(f))
			return
		}
		over := b.over // of b nothing is mine once uploading is false
		for _, p := range [...][]byte{piece, tail} {
			if len(p) == 0 {
				continue
			}
			if _, err := x.up.write(p, x.silence); err != nil {
				if isTimeout(err) {
					h.silent.Store(true)
				}
				h.broken.Store(true)
				h.uploading.Store(false)
				x.up.wake()
				return
			}
		}
		if over {
			h.sentAt = time.Now()
			h.uploading.Store(false)
			x.up.nudge(h.sentAt.Add(watchAfter))
			return
		}
	}
}

// readBody reads more of the body into body.large, which is empty but for the
// begin of a trailer section.
func (x *exchange) readBody() error {
	h, b, c := &x.helper, &x.body, x.conn
	if b.large.len() == 0 {
		b.large.release()
	} else if len(b.large.free()) == 0 {
		b.large.grow(largeBlock)
	}
	now := time.Now()
	limit := now.Add(c.how.Body)
	rate := int64(c.how.MinRate)
	if rate > 0 {
		if end := now.Add(b.patience(rate)); end.Before(limit) {
			limit = end
		}
	}
	for {
		n, err := c.sock.read(&b.large, largeBlock, now, limit)
		switch {
		case err == nil:
			if rate > 0 {
				b.read += int64(n)
				b.waited += time.Since(now)
			}
			return nil
		case err == errWoken:
			if h.stopping.Load() {
				return err
			}
			continue
		case isTimeout(err):
			x.giveUp(balance.BodyTimeout)
		default:
			x.giveUp(balance.ClientGone)
		}
		return err
	}
}

// patience is how long a client may still be waited for that has to send rate
// bytes a second. What the endpoint is slow with is not its doing.
func (b *upload) patience(rate int64) time.Duration {
	paid := b.read / rate // seconds
	if paid > int64(time.Hour/time.Second) {
		return time.Hour
	}
	return minRateGrace + time.Duration(paid)*time.Second - b.waited
}

// giveUp breaks the upstream's connection, which must not see a whole request.
func (x *exchange) giveUp(kind balance.Kind) {
	x.body.kind = kind
	x.helper.gone.Store(true)
	x.up.Close()
}

// watch learns that the client hangs up. What comes is the next request.
func (x *exchange) watch() {
	h, c := &x.helper, x.conn
	in := &c.in
	if x.body.large.len() > 0 {
		in = &x.body.large
	}
	for !h.stopping.Load() && (in.block == nil || len(in.free()) > 0) {
		_, err := c.sock.read(in, smallBlock, time.Time{}, time.Time{})
		switch {
		case err == nil || err == errWoken:
		case err == io.EOF:
			h.finished.Store(true)
			x.up.wake()
			return
		default:
			x.giveUp(balance.ClientGone)
			return
		}
	}
}
