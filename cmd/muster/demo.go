package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"muster/backends/etcd"
	"muster/catalog"
	"muster/cmd/internal/cli"
	"muster/config"
	"muster/sidekick"
)

const demoHelp = `The real thing in one process: an embedded etcd, three backends (web/3 is slow)
with a sidekick each, a balancer with its status page, and a light load, so that
something moves. It uses 127.0.0.1 only, takes free ports where the usual ones
are taken, and leaves nothing behind when it ends.`

// demo is "muster demo".
func demo(ctx context.Context, std cli.Std, args []string) int {
	f := cli.NewFlags("demo", "[flags]", demoHelp)
	rate := f.Int("rate", 50, "`requests` a second to send; 0 for none")
	logger := f.Log(std)
	// The screen tells what happens; the log would tell it again.
	f.Lookup("log").DefValue = "error"
	_ = f.Lookup("log").Value.Set("error")
	rest, command, code, ok := f.Parse(std, args)
	switch {
	case !ok:
		return code
	case len(rest)+len(command) > 0:
		return f.Wrong(std, "unexpected %q", strings.Join(append(rest, command...), " "))
	case *rate < 0 || *rate > 1000:
		return f.Wrong(std, "-rate %d: want 0 to 1000", *rate)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP) // hangup: the terminal was closed
	defer stop()
	d := &demoStack{std: std, log: logger(), rate: *rate}
	if err := d.run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintf(std.Err, "muster demo: %v\n", err)
		return cli.Failed
	}
	return cli.Done
}

// A demoStack is everything that the demo starts.
type demoStack struct {
	std  cli.Std
	log  *slog.Logger
	rate int

	storeURL string
	edge     *edge
	backends []*demoBackend
	failed   atomic.Uint64 // requests of the load without a good answer
}

// run starts everything, in the order in which it is needed, and ends it in the
// other order when ctx ends.
func (d *demoStack) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "muster-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer hurry(ctx, dir)()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	storeAddr, err := freeAddr("127.0.0.1:2379")
	if err != nil {
		return err
	}
	begin := time.Now()
	stopEtcd, err := startEtcd(ctx, dir, storeAddr)
	if err != nil {
		return err
	}
	defer stopEtcd()
	d.log.Debug("etcd is ready", "took", time.Since(begin))
	d.storeURL = "etcd://" + storeAddr

	stopEdge, err := d.startEdge(ctx, fail)
	if err != nil {
		return err
	}
	defer stopEdge()
	stopBackends, err := d.startBackends(ctx, fail)
	if err != nil {
		return err
	}
	defer stopBackends()
	if err := d.waitReady(ctx); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	d.log.Debug("all are announced", "took", time.Since(begin))
	d.show(storeAddr)

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { d.load(ctx) })
	go d.keys(ctx) // a read of the terminal can't be ended: this goes with the process
	d.tell(ctx)
	fmt.Fprintln(d.std.Out, "\nleaving …")
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return cause
	}
	return nil
}

// hurry ends the process at once at the second signal, the one after that which
// ended ctx, but not without removing dir.
func hurry(ctx context.Context, dir string) (stop func()) {
	again, done := make(chan os.Signal, 1), make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			signal.Notify(again, syscall.SIGINT, syscall.SIGTERM)
		case <-done:
			return
		}
		select {
		case s := <-again:
			os.RemoveAll(dir)
			os.Exit(128 + int(s.(syscall.Signal)))
		case <-done:
			signal.Stop(again)
		}
	}()
	return func() { close(done) }
}

// freeAddr is usual, or where that is taken an address with a free port.
func freeAddr(usual string) (string, error) {
	l, err := net.Listen("tcp", usual)
	if err != nil {
		host, _, _ := net.SplitHostPort(usual)
		if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			return "", err
		}
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// startEdge starts the balancer. stop waits until it has answered everything.
func (d *demoStack) startEdge(ctx context.Context, fail context.CancelCauseFunc) (stop func(), err error) {
	listen, err := freeAddr("127.0.0.1:8080")
	if err != nil {
		return nil, err
	}
	adminAddr, err := freeAddr("127.0.0.1:9900")
	if err != nil {
		return nil, err
	}
	store, err := etcd.Open(d.storeURL, d.log)
	if err != nil {
		return nil, err
	}
	d.edge = &edge{
		Store: store, StoreURL: d.storeURL, Prefix: catalog.DefaultPrefix, Admin: adminAddr,
		Flags: config.Flags{Listen: []string{listen}}, Log: d.log, AccessLog: io.Discard,
	}
	if err := d.edge.start(); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return demoRun(ctx, fail, func(ctx context.Context) error {
		defer store.Close()
		return d.edge.run(ctx)
	}), nil
}

// demoRun runs f aside. What it returns before it is stopped ends the demo. stop
// waits for its end.
func demoRun(ctx context.Context, fail context.CancelCauseFunc, f func(context.Context) error) (stop func()) {
	// Not ended by ctx: each part ends in its turn.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			fail(err)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// A demoBackend is an echo server and its sidekick.
type demoBackend struct {
	name, addr string
	delay      time.Duration
	toggle     chan struct{} // takes a token: stop the server, or start it again
}

// demoDelays are how long the backends take. The slow one is still busy when the
// next requests come, and gets half as many for it.
var demoDelays = []time.Duration{time.Millisecond, time.Millisecond, 60 * time.Millisecond}

// startBackends starts the backends and then their sidekicks. stop lets each
// sidekick withdraw before its backend ends.
func (d *demoStack) startBackends(ctx context.Context, fail context.CancelCauseFunc) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for len(stops) > 0 {
			stops[len(stops)-1]()
			stops = stops[:len(stops)-1]
		}
	}
	for i, delay := range demoDelays {
		b := &demoBackend{name: fmt.Sprintf("web/%d", i+1), delay: delay, toggle: make(chan struct{})}
		e, err := newEchoServer("127.0.0.1:0", b.name, delay, 0)
		if err != nil {
			stop()
			return nil, err
		}
		b.addr = e.addr
		d.backends = append(d.backends, b)
		stops = append(stops, demoRun(ctx, fail, func(ctx context.Context) error { return b.run(ctx, e) }))
	}
	for _, b := range d.backends {
		store, err := etcd.Open(d.storeURL, d.log)
		if err != nil {
			stop()
			return nil, err
		}
		service, id, _ := strings.Cut(b.name, "/")
		s, err := sidekick.New(sidekick.Config{
			Service: service, ID: id, Addr: b.addr, Checks: []string{"http:/healthz"}, Interval: 500 * time.Millisecond,
			Fall: 2, Drain: -1, Lease: store.Lease(5 * time.Second), Log: d.log,
		})
		if err != nil {
			stop()
			return nil, errors.Join(err, store.Close())
		}
		stops = append(stops, demoRun(ctx, fail, func(ctx context.Context) error {
			defer store.Close()
			return s.Run(ctx)
		}))
	}
	return stop, nil
}

// run serves until ctx ends; a toggle stops the server, and starts it again at
// the same address.
func (b *demoBackend) run(ctx context.Context, e *echoServer) error {
	for {
		serving, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- e.Run(serving) }()
		select {
		case err := <-ended:
			stop()
			return err
		case <-ctx.Done():
			stop()
			return <-ended
		case <-b.toggle:
			stop()
			if err := <-ended; err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.toggle:
		}
		var err error
		if e, err = newEchoServer(b.addr, b.name, b.delay, 0); err != nil {
			return err
		}
	}
}

// demoPatience is how long the parts may take to find each other.
const demoPatience = time.Minute

// waitReady waits until the balancer knows all backends.
func (d *demoStack) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	var known *catalog.Snapshot
	for {
		next, err := d.edge.watcher.Next(ctx, known)
		if err != nil {
			return fmt.Errorf("waiting for the announcements of %d backends: %w", len(d.backends), err)
		}
		known = next
		up := 0
		if web := next.Service("web"); web != nil {
			for _, e := range web.Endpoints {
				if e.State == catalog.Up {
					up++
				}
			}
		}
		if up == len(d.backends) {
			return nil
		}
	}
}
