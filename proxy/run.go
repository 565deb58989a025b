package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"muster/proxy/http1"
	"muster/proxy/portable"
)

// relistenInterval is how often a listener that could not be opened later is
// tried again.
const relistenInterval = time.Second

// Listen opens the plan's listeners; clients can connect from then on, but wait
// for Run. One that can't be opened is an error, and then none is open.
func (p *Proxy) Listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listened {
		return nil // Run sees to what a later plan adds
	}
	var errs []error
	for _, l := range p.plan.Listeners {
		if p.open[l.Bind] == nil {
			errs = append(errs, p.listen(l))
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		for bind, l := range p.open {
			l.Close()
			delete(p.open, bind)
		}
	}
	p.listened = err == nil
	return err
}

// Addrs are the addresses that are open, in the plan's order.
func (p *Proxy) Addrs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	addrs := []string{} // JSON shows a list
	for l := range p.opened {
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// opened are the listeners that are open, in the plan's order. The lock is held.
func (p *Proxy) opened(yield func(*listener) bool) {
	for _, l := range p.plan.Listeners {
		if open := p.open[l.Bind]; open != nil && !yield(open) {
			return
		}
	}
}

// Run opens the plan's listeners, where [Proxy.Listen] has not, and serves until
// ctx ends: then it stops accepting, lets running requests finish for the drain
// time and returns nil. A listener that can't be opened at the start is an
// error; one that a later plan adds is logged and tried again. Run is called
// once.
func (p *Proxy) Run(ctx context.Context) error {
	if err := p.Listen(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(p.access.run)
	probing, stopProbing := context.WithCancel(ctx)
	wg.Go(func() { p.probes.run(probing) })

	p.serve(ctx)

	stopProbing()
	p.sweeper.Stop()
	p.engine.Close()
	p.access.close()
	wg.Wait()
	return nil
}

// serve keeps the listeners as the plan says until ctx ends and they are drained.
func (p *Proxy) serve(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		var again <-chan time.Time
		if !p.relist(ctx, &serving) {
			again = time.After(relistenInterval)
		}
		select {
		case <-p.relisten:
		case <-again:
		case <-ctx.Done():
			p.mu.Lock()
			for bind, l := range p.open {
				l.Close()
				delete(p.open, bind)
			}
			p.mu.Unlock()
			return
		}
	}
}

// relist opens, closes and starts listeners so that they are as in the plan. It
// reports whether they are.
func (p *Proxy) relist(ctx context.Context, serving *sync.WaitGroup) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ok = true
	for bind, l := range p.open {
		if !slices.ContainsFunc(p.plan.Listeners, func(l Listener) bool { return l.Bind == bind }) {
			p.log.Info("listener closed", "bind", bind)
			l.Close()
			delete(p.open, bind)
		}
	}
	for _, plan := range p.plan.Listeners {
		l := p.open[plan.Bind]
		if l == nil {
			if err := p.listen(plan); err != nil {
				ok = false
				if p.failing[plan.Bind] != err.Error() {
					p.failing[plan.Bind] = err.Error()
					p.log.Error("listener not open, trying again", "bind", plan.Bind, "err", err)
				}
				continue
			}
			delete(p.failing, plan.Bind)
			l = p.open[plan.Bind]
		}
		if l.stop == nil {
			p.start(ctx, serving, l)
		}
		if !sameSettings(l.plan, plan) {
			l.front.Set(plan.engine(p.drain))
			p.log.Info("listener has new settings", "addr", l.Addr(), "source", plan.Source)
		}
		l.plan = plan
	}
	return ok
}

// sameSettings reports whether clients are treated alike.
func sameSettings(a, b Listener) bool {
	a.Source = b.Source
	return reflect.DeepEqual(a, b)
}

// connections is how many there may be; zero: any number.
func (l *Limits) connections() int {
	if l.Connections != 0 {
		return max(l.Connections, 0)
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil {
		return 0
	}
	return int(min(files.Cur, 1<<30) / 5 * 4)
}

// engine is how the engine is told.
func (l *Listener) engine(drain time.Duration) portable.Listener {
	return portable.Listener{
		Header: l.Timeout.Header, Body: l.Timeout.Body, Idle: l.Timeout.Idle,
		Write: l.Timeout.Write, Expect: l.Timeout.Expect, HalfClose: l.Timeout.HalfClose, Drain: drain,
		Head: l.Limits.Head, Target: l.Limits.Target, Fields: l.Limits.Fields, Requests: max(l.Limits.Requests, 0),
		MinRate: max(l.Limits.MinRate, 0), PerClient: max(l.Limits.PerClient, 0), Connections: l.Limits.connections(),
		Trusted: l.Trusted, Trace: l.Trace,
		Rules: http1.Rules{
			Dots: l.Dots, Drop: l.Drop, Via: l.Via,
			Underscores: map[Underscores]http1.Underscores{RejectUnderscores: http1.RejectUnderscores, AllowUnderscores: http1.AllowUnderscores}[l.Underscores],
			Style:       map[ForwardedStyle]http1.Style{ForwardedRFC: http1.RFC7239, ForwardedBoth: http1.Both}[l.Forwarded],
		},
		Quiet: l.ProxyStatus == ProxyStatusOff, Tells: l.ProxyStatus == ProxyStatusAlways,
	}
}

// start serves l.
func (p *Proxy) start(ctx context.Context, serving *sync.WaitGroup, l *listener) {
	p.log.Info("listening", "addr", l.Addr(), "source", l.plan.Source)
	// Not ended by ctx but by Close, which frees the address first.
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	serving.Go(func() {
		if err := p.engine.Serve(ctx, l, l.front); err != nil {
			p.log.Error("listener ended", "addr", l.Addr(), "err", err)
		}
	})
}

// listen opens one listener.
func (p *Proxy) listen(plan Listener) error {
	socket, err := open(plan.Bind)
	if err == nil {
		p.open[plan.Bind] = newListener(socket, p.log, plan, plan.engine(p.drain))
		return nil
	}
	source := cmp.Or(plan.Source, "default")
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %q (%s): another process has this port: stop it or choose another address: %w", plan.Bind, source, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen on %q (%s): ports below 1024 need a privilege: choose another port or give the process CAP_NET_BIND_SERVICE: %w", plan.Bind, source, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen on %q (%s): no interface of this machine has the address: %w", plan.Bind, source, err)
	}
	return fmt.Errorf("listen on %q (%s): %w", plan.Bind, source, err)
}
