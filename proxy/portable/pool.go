package portable

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"muster/proxy/balance"
)

// What a pool keeps, and how long things may take that no setting names.
const (
	idlePerUpstream   = 256
	idleTimeout       = 90 * time.Second
	handshakeTimeout  = 5 * time.Second
	continueTimeout   = time.Second
	responseHeadBytes = 64 << 10
)

// A pool is the connections to one upstream.
type pool struct {
	scheme string
	reuse  *http.Transport
	fresh  *http.Transport // never uses a connection twice
}

// pool returns the pool of u, made when it is first needed.
func (e *Engine) pool(u *balance.Upstream) *pool {
	if p, ok := e.pools.Load(u); ok {
		return p.(*pool)
	}
	p, _ := e.pools.LoadOrStore(u, newPool(u.Proto))
	return p.(*pool)
}

func newPool(proto string) *pool {
	p := &pool{scheme: "http", reuse: transport(), fresh: transport()}
	if proto == "https" {
		p.scheme = "https"
	}
	p.fresh.DisableKeepAlives = true
	return p
}

func transport() *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		MaxIdleConnsPerHost:    idlePerUpstream,
		IdleConnTimeout:        idleTimeout,
		TLSHandshakeTimeout:    handshakeTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: responseHeadBytes,
		DisableCompression:     true,
	}
}

func (p *pool) close() {
	p.reuse.CloseIdleConnections()
	p.fresh.CloseIdleConnections()
}

// dial connects within the time that the request's service allows.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	t := ctx.Value(tryKey{}).(*try)
	if t.wrote() {
		return nil, errAgain
	}
	d := net.Dialer{Timeout: t.connect}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, silence: t.silence}, nil
}

// A conn is a connection to an upstream that knows how much was written to it.
type conn struct {
	net.Conn
	silence time.Duration // how long one write may wait
	written atomic.Int64
	try     atomic.Pointer[try] // what goes by it now, or did last
	refuse  atomic.Bool         // nothing more may be written
	tunnel  atomic.Bool         // writes may wait for ever
}

var errRefused = errors.New("not to be written to")

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		if t := c.try.Load(); t != nil {
			t.hungUp()
		}
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if c.refuse.Load() {
		return 0, errRefused
	}
	if !c.tunnel.Load() {
		c.SetWriteDeadline(time.Now().Add(c.silence))
	}
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// CloseWrite ends one direction of a tunnel.
func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

// counted returns our side of a connection that a transport reports.
func counted(c net.Conn) *conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	counted, _ := c.(*conn)
	return counted
}
