package portable

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"muster/proxy/balance"
)

const (
	nameTTL    = 5 * time.Second  // an answer of the resolver is used without asking again
	nameWithin = 2 * time.Second  // it may take
	nameUnused = 10 * time.Minute // until it is forgotten
)

// names are the hosts of endpoints that are names. Each is asked for again while
// it is used, aside: what was answered last goes on being used until there is
// another answer, however long the resolver is away.
type names struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	log    *slog.Logger

	mu     sync.Mutex // guards what follows
	known  map[string]*name
	closed bool
	asking sync.WaitGroup
}

// A name is what is known of one.
type name struct {
	addrs   []netip.Addr  // as answered last
	err     error         // why there is no newer answer
	at      time.Time     // when it was asked for last
	used    time.Time     // when somebody wanted it last
	waiting chan struct{} // closed when the answer is there; nil: nobody asks
}

func newNames(log *slog.Logger) *names {
	return &names{log: log, known: make(map[string]*name), lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}}
}

// of returns the addresses of host; it waits only where it knows none.
func (n *names) of(ctx context.Context, host string) ([]netip.Addr, error) {
	waiting := n.ask(host)
	if waiting != nil {
		select {
		case <-waiting:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if is := n.known[host]; is != nil && len(is.addrs) > 0 {
		return is.addrs, nil
	} else if is != nil && is.err != nil {
		return nil, is.err
	}
	return nil, &net.DNSError{Err: "no answer", Name: host}
}

// ask has host resolved, if that is due, and returns what to wait for where
// nothing is known of it.
func (n *names) ask(host string) (waiting <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	is := n.known[host]
	if is == nil {
		is = new(name)
		n.known[host] = is
	}
	now := time.Now()
	is.used = now
	due := now.Sub(is.at) >= nameTTL || len(is.addrs) == 0
	if due && is.waiting == nil && !n.closed {
		is.waiting = make(chan struct{})
		n.asking.Go(func() { n.resolve(host, is) })
	}
	if len(is.addrs) > 0 {
		return nil
	}
	return is.waiting
}

func (n *names) resolve(host string, is *name) {
	ctx, cancel := context.WithTimeout(context.Background(), nameWithin)
	defer cancel()
	addrs, err := n.lookup(ctx, host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err != nil && is.err == nil && len(is.addrs) > 0:
		n.log.Warn("name of an endpoint can't be resolved, its last addresses stay in use", "host", host, "addrs", is.addrs, "err", err)
	case err == nil && is.err != nil && len(is.addrs) > 0:
		n.log.Info("name of an endpoint is resolved again", "host", host, "addrs", addrs)
	}
	is.at, is.err = time.Now(), err
	if err == nil && len(addrs) > 0 {
		is.addrs = addrs
	}
	close(is.waiting)
	is.waiting = nil
}

// current is where the connections of u may lead, while its host is a name; all of
// them where it is not, or nothing is known.
func (n *names) current(u *balance.Upstream) func(net.Addr) bool {
	host, _, err := net.SplitHostPort(u.Addr)
	if err != nil || isAddr(host) {
		return nil
	}
	n.mu.Lock()
	is := n.known[host]
	n.mu.Unlock()
	if is == nil {
		return nil
	}
	n.ask(host)
	n.mu.Lock()
	addrs := is.addrs
	n.mu.Unlock()
	return func(a net.Addr) bool {
		at, ok := a.(*net.TCPAddr)
		return !ok || len(addrs) == 0 || slices.Contains(addrs, at.AddrPort().Addr().Unmap())
	}
}

// forget drops the names that nobody uses any more.
func (n *names) forget(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for host, is := range n.known {
		if is.waiting == nil && now.Sub(is.used) > nameUnused {
			delete(n.known, host)
		}
	}
}

// close waits until nothing is being asked any more; nothing more will be.
func (n *names) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.asking.Wait()
}

func isAddr(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// Dial connects to addr, HOST:PORT, within timeout. Where the host is a name it
// goes through its addresses.
func (e *Engine) Dial(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || isAddr(host) {
		return d.DialContext(ctx, "tcp", addr)
	}
	deadline := time.Now().Add(timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	addrs, err := e.names.of(ctx, host)
	if err != nil {
		return nil, err
	}
	for i, a := range addrs {
		d.Timeout = time.Until(deadline) / time.Duration(len(addrs)-i)
		var c net.Conn
		if c, err = d.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port)); err == nil {
			return c, nil
		}
	}
	return nil, err
}
