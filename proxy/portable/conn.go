// This file runs once per request.

package portable

import (
	"net"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"muster/proxy/balance"
	"muster/proxy/http1"
)

// A conn is one client's connection. Its goroutine reads a request head, runs
// the exchange, and reads the next.
type conn struct {
	*serving
	standing
	sock  *socket
	how   *manner
	peer  string       // address without port
	rules *http1.Rules // of how
	in    buffer       // read, and not used yet
	now   time.Time
	began time.Time // when the first byte of the head was there
	asked int       // requests so far
	x     *exchange // from the first byte of a request on

	counted bool // in running

	up      atomic.Pointer[upstream] // what the exchange has
	cutting atomic.Bool
}

func newConn(s *serving, c net.Conn) *conn {
	addr := peerOf(c)
	cc := &conn{serving: s, sock: newSocket(c), peer: "unknown"} // not of the internet
	if addr.IsValid() {
		cc.peer = addr.String()
	}
	trusted := cc.adopt(s.front.how.Load())
	if cc.how.PerClient > 0 && !trusted { // a proxy may have any number of connections
		cc.standing = s.front.judge(addr, cc.how.PerClient)
	}
	return cc
}

// adopt goes by how from now on. It reports whether that trusts the peer.
func (c *conn) adopt(how *manner) bool {
	c.how, c.rules = how, how.rules[0]
	if len(how.Trusted) == 0 || !how.trusts(peerOf(c.sock.Conn)) {
		return false
	}
	c.rules = how.rules[1]
	return true
}

// peerOf is the address of who connected; zero where it is not of the internet.
func peerOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// cut ends the connection and what it has, whatever it is doing.
func (c *conn) cut() {
	c.cutting.Store(true)
	c.sock.Close()
	if up := c.up.Load(); up != nil {
		up.Close()
	}
}

// attach notes what cut has to close beside the client's connection; nil: no
// more.
func (c *conn) attach(up *upstream) {
	c.up.Store(up)
	if up != nil && c.cutting.Load() {
		up.Close()
	}
}

// serve is the connection's goroutine.
func (c *conn) serve() {
	defer c.left(c)
	defer c.sock.Close()
	defer c.end()
	c.now = time.Now()
	for first := true; c.next(first); first = false {
		if !c.x.run() {
			return
		}
		c.endRequest()
	}
}

// end gives up what the connection holds. A panic costs this connection and no
// other.
func (c *conn) end() {
	if problem := recover(); problem != nil {
		c.engine.panicked(problem)
		if c.x != nil {
			c.x.abandon()
		}
	}
	c.endRequest()
	c.in.release()
}

func (e *Engine) panicked(problem any) {
	e.panics.Add(1)
	e.Log.Error("a request panicked; its connection is closed", "err", problem, "stack", string(debug.Stack()))
}

// endRequest gives up what one request held.
func (c *conn) endRequest() {
	if c.x != nil {
		c.x.free()
		c.x = nil
	}
	if c.counted {
		c.counted = false
		c.running.leave()
	}
}

// next reads a request's head into c.x. False is the end of the connection,
// which was answered if it had to be.
func (c *conn) next(first bool) bool {
	if !c.await(first) {
		return false
	}
	if how := c.front.how.Load(); how != c.how {
		c.adopt(how)
	}
	c.counted = true
	c.running.enter()
	c.asked++
	c.x = newExchange(c)
	c.began = c.now
	limit := c.now.Add(c.how.Header)
	for {
		n, f := c.x.req.Parse(c.in.bytes(), c.how.limits)
		if f != 0 {
			c.x.head = c.in.bytes()
			c.x.refuse(f)
			return false
		}
		if n > 0 {
			c.x.head = c.in.bytes()[:n]
			c.in.r += n
			return true
		}
		if len(c.in.free()) == 0 {
			c.in.grow(2 * c.in.len())
		}
		if !c.more(limit) {
			return false
		}
	}
}

// await waits for the first byte of a request.
func (c *conn) await(first bool) bool {
	if c.in.len() > 0 {
		return true
	}
	c.in.release()
	limit := c.now.Add(c.how.Idle)
	if first {
		limit = c.now.Add(max(c.how.Header, c.how.Idle))
	}
	for {
		if c.draining.Load() {
			if !first {
				// What has come already is still served.
				return c.sock.readNow(&c.in, smallBlock) > 0
			}
			limit = c.grace
		}
		_, err := c.sock.read(&c.in, smallBlock, c.now, limit)
		if err == errWoken {
			continue
		}
		c.now = time.Now()
		return err == nil
	}
}

// more reads more of a head that has begun.
func (c *conn) more(limit time.Time) bool {
	for {
		_, err := c.sock.read(&c.in, smallBlock, c.now, limit)
		c.now = time.Now()
		switch {
		case err == nil:
			return true
		case err == errWoken:
			continue
		case isTimeout(err):
			c.x.head = c.in.bytes()
			c.x.begin()
			c.x.closing = true
			c.x.answer(balance.HeadTimeout)
			c.x.end()
		}
		return false
	}
}

// isLast reports whether no request may come after this one.
func (c *conn) isLast() bool { return c.how.Requests > 0 && c.asked >= c.how.Requests }

// linger ends our direction and reads what still comes, so that no reset
// overtakes the last answer (RFC 9112, section 9.6). A client that said that this
// is its last request, and has sent nothing behind it, need not be waited for.
func (c *conn) linger() {
	if x := c.x; x.req.Close && x.body.over && c.in.len() == 0 && c.sock.spent() {
		return
	}
	if c.sock.closeWrite() != nil {
		return
	}
	now := time.Now()
	end := now.Add(lingerMost)
	var waste buffer
	defer waste.release()
	for now.Before(end) {
		limit := now.Add(lingerSilence)
		if limit.After(end) {
			limit = end
		}
		_, err := c.sock.read(&waste, largeBlock, now, limit)
		if err != nil && err != errWoken {
			return
		}
		waste.release()
		now = time.Now()
	}
}

// kindOf is the kind of a request's fault.
func kindOf(f http1.Fault) balance.Kind { return balance.KindOf(f.Status(), f.Kind()) }
