package portable

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"muster/proxy/balance"
)

// What a pool keeps, and how long things may take that no setting names.
const (
	idlePerUpstream  = 256
	idleTimeout      = 90 * time.Second
	sweepInterval    = time.Second / 2
	handshakeTimeout = 5 * time.Second
)

// An upstream is a connection to an endpoint.
type upstream struct {
	*socket
	reused bool      // it has carried a request before
	since  time.Time // idle
}

// A pool is the idle connections to one endpoint. The one that was used last is
// used next, so that those that are too many grow old.
type pool struct {
	mu     sync.Mutex // guards what follows
	idle   []*upstream
	closed bool
}

// pool returns the pool of u, made when it is first needed.
func (e *Engine) pool(u *balance.Upstream) *pool {
	if p, ok := e.pools.Load(u); ok {
		return p.(*pool)
	}
	p, _ := e.pools.LoadOrStore(u, new(pool))
	return p.(*pool)
}

// take returns an idle connection, or nil. Whether it is good, the first write to
// it says: one on which something came, or that was closed, is thrown away, as
// nobody asked for that.
func (p *pool) take() *upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// put keeps a connection for later.
func (p *pool) put(c *upstream, now time.Time) {
	c.reused, c.idle, c.since = true, true, now
	p.mu.Lock()
	keep := !p.closed && len(p.idle) < idlePerUpstream
	if keep {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if !keep {
		c.Close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// sweep closes what is old, was closed by the endpoint, or leads where its name
// does not lead any more (current is nil where there is none). Whether it was
// closed is not looked at where it was in use a moment ago.
func (p *pool) sweep(now time.Time, current func(net.Addr) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.idle[:0]
	for _, c := range p.idle {
		idle, moved := now.Sub(c.since), current != nil && !current(c.RemoteAddr())
		if !moved && (idle < sweepInterval/10 || idle < idleTimeout && c.alive() == nil) {
			kept = append(kept, c)
		} else {
			c.Close()
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
}

// A sweeper sweeps the pools while somebody serves.
type sweeper struct {
	mu      sync.Mutex // guards what follows
	serving int
	stop    context.CancelFunc
	done    chan struct{}
}

func (e *Engine) startSweeping() {
	s := &e.sweeper
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving++; s.serving > 1 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.stop, s.done = stop, done
	go func() {
		defer close(done)
		t := time.NewTicker(sweepInterval)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-t.C:
				e.pools.Range(func(u, p any) bool {
					p.(*pool).sweep(now, e.names.current(u.(*balance.Upstream)))
					return true
				})
				e.names.forget(now)
			}
		}
	}()
}

func (e *Engine) stopSweeping() {
	s := &e.sweeper
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving--; s.serving == 0 {
		s.stop()
		<-s.done
	}
}

// dial connects to u.
func (e *Engine) dial(ctx context.Context, u *balance.Upstream, timeout time.Duration) (*upstream, error) {
	c, err := e.Dial(ctx, u.Addr, timeout)
	if err != nil {
		return nil, err
	}
	if u.Proto != "https" {
		return &upstream{socket: newSocket(c)}, nil
	}
	host, _, err := net.SplitHostPort(u.Addr)
	if err != nil {
		c.Close()
		return nil, err
	}
	t := tls.Client(c, &tls.Config{ServerName: host})
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, errors.Join(errHandshake, err)
	}
	return &upstream{socket: newSocket(t)}, nil
}

var errHandshake = errors.New("tls handshake")
