package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"muster/admin"
	"muster/backends"
	"muster/catalog"
	"muster/config"
	"muster/discovery"
	"muster/proxy"
)

// An edge is a balancer put together: a store that is followed, the plan that
// is made of every snapshot, the proxy that does it and the admin listener that
// shows it. "muster proxy" and "muster demo" both run one.
//
//	store ──> discovery.Watcher ──snapshot──> config.Plan ──plan──> proxy.Proxy
type edge struct {
	Store      backends.Store // nil: none
	StoreURL   string         // how the user named it, for the record of exposure
	Prefix     string
	File       *config.File                 // nil: none
	Reload     func() (*config.File, error) // reads the file again; nil: none
	Reloads    <-chan os.Signal             // asks for that; nil: never
	Flags      config.Flags
	StateDir   string // "": nothing is kept
	Admin      string // its address; "": off
	AdminToken string // "": none, so only this machine may look
	Log        *slog.Logger
	AccessLog  io.Writer

	proxy    *proxy.Proxy
	admin    *admin.Admin // nil: off
	watcher  *discovery.Watcher
	planner  config.Planner
	heap     heap
	problems problems
	record   *record
}

// start opens every port, so that a taken one is an error before anything runs.
func (e *edge) start() error {
	e.record = openRecord(e.StateDir, e.StoreURL, e.Prefix, e.Log)
	e.Flags.Sole, e.Flags.SoleSeen = e.record.sole()
	e.proxy = proxy.New(proxy.Config{Log: e.Log, AccessLog: e.AccessLog})
	var snapshot *catalog.Snapshot
	if e.Store == nil {
		snapshot = catalog.New(e.Prefix) // nothing to wait for
	} else {
		e.watcher = discovery.New(e.discovery())
		e.heap.begin()
	}
	e.update(snapshot)
	if err := e.openAdmin(); err != nil {
		return err
	}
	if err := e.proxy.Listen(); err != nil {
		if e.admin != nil {
			e.admin.Close()
		}
		return err
	}
	if e.admin != nil {
		e.Log.Info("admin listening", "addr", e.admin.Addr())
	}
	return nil
}

// discovery is how the store is followed.
func (e *edge) discovery() discovery.Config {
	c := discovery.Config{Store: e.Store, Prefix: e.Prefix, Log: e.Log, Probe: proxy.Probe}
	if s, ok := e.Store.(interface {
		LeaseAlive(ctx context.Context, id int64) (bool, error)
	}); ok {
		c.LeaseAlive = s.LeaseAlive
	}
	if e.StateDir != "" && e.StoreURL != "" {
		c.Origin = redacted(e.StoreURL)
		c.Disk = stateFile(e.StateDir, "snapshot", strings.Join(addresses(e.StoreURL), ","), e.Prefix, "")
	}
	return c
}

// openAdmin takes the admin address, if there is to be one.
func (e *edge) openAdmin() (err error) {
	if e.Admin == "" {
		return nil
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(e.proxy, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cfg := admin.Config{
		Bind: e.Admin, Token: e.AdminToken, Log: e.Log, Version: versionText(), Metrics: registry,
		Balancer: e.proxy, StoreURL: redacted(e.StoreURL), Notes: e.problems.notes,
	}
	if e.watcher != nil {
		registry.MustRegister(e.watcher)
		cfg.Store = e.watcher
	}
	e.admin, err = admin.New(cfg)
	return err
}

// redacted is a store URL as people may see it: without its password.
func redacted(rawurl string) string {
	u, err := url.Parse(rawurl)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// run serves until ctx ends and every request is answered. It is called once,
// after start.
func (e *edge) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	// The watcher and the admin listener outlive the proxy: endpoints may leave
	// while it drains, and people look.
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 2) // one for each of them
	serving, cancel := context.WithCancel(behind)
	defer cancel()
	if e.watcher != nil {
		wg.Go(func() {
			if err := e.watcher.Run(behind); behind.Err() == nil {
				failed <- fmt.Errorf("following the store: %w", err)
				cancel()
			}
		})
	}
	wg.Go(func() { e.follow(behind) })
	if e.admin != nil {
		wg.Go(func() {
			if err := e.admin.Run(behind); behind.Err() == nil {
				failed <- err
				cancel()
			}
		})
	}
	defer context.AfterFunc(ctx, func() {
		if e.admin != nil {
			e.admin.Leave() // before the port closes: /readyz says so first
		}
		e.Log.Info("draining", "in_flight", e.proxy.Status().InFlight)
		cancel()
	})()
	err := e.proxy.Run(serving)
	e.Log.Info("ended", "in_flight", e.proxy.Status().InFlight)
	select {
	case other := <-failed:
		err = errors.Join(err, other)
	default:
	}
	return err
}

// follow makes a plan of every snapshot and of every new file.
func (e *edge) follow(ctx context.Context) {
	snapshots := make(chan *catalog.Snapshot)
	var wg sync.WaitGroup
	defer wg.Wait()
	if e.watcher != nil {
		wg.Go(func() {
			var known *catalog.Snapshot
			for {
				next, err := e.watcher.Next(ctx, known)
				if err != nil {
					return
				}
				select {
				case snapshots <- next:
					known = next
				case <-ctx.Done():
					return
				}
			}
		})
	}
	var newest *catalog.Snapshot
	if e.watcher == nil {
		newest = catalog.New(e.Prefix)
	}
	for {
		select {
		case newest = <-snapshots:
		case <-e.Reloads:
			file, err := e.Reload()
			if err != nil {
				e.Log.Error("file not reloaded, the last good one stays", "err", err)
				continue
			}
			e.File = file
			e.Log.Info("file reloaded")
		case <-ctx.Done():
			return
		}
		first := newest != nil && !e.proxy.Ready()
		e.update(newest)
		if first {
			wg.Go(e.heap.settle)
		} else {
			e.heap.bound()
		}
	}
}

func (e *edge) update(snapshot *catalog.Snapshot) {
	e.Flags.Loaded = e.watcher != nil && e.watcher.IsLoaded(snapshot)
	plan, problems := e.planner.Plan(e.File, e.Flags, snapshot)
	e.proxy.Update(plan)
	e.problems.set(problems, e.Log)
	if snapshot != nil && e.Flags.Default == "" && !e.Flags.Loaded {
		e.Flags.Sole = plan.Sole
		e.record.keep(plan.Sole, snapshot, len(plan.Services))
	}
}

// problems are those of the newest plan. They are logged when they come and
// when they go.
type problems struct {
	mu  sync.Mutex
	now []config.Problem
}

func (p *problems) set(now []config.Problem, log *slog.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(now) == len(p.now) && (len(now) == 0 || &now[0] == &p.now[0]) {
		return // the same, as the planner took them over
	}
	was := make(map[config.Problem]bool, len(p.now))
	for _, old := range p.now {
		was[old] = true
	}
	for _, problem := range now {
		if !was[problem] {
			log.Warn(problem.Text, "service", problem.Service)
		}
		delete(was, problem)
	}
	for old := range was {
		log.Info("no longer so: "+old.Text, "service", old.Service)
	}
	p.now = now
}

func (p *problems) notes() []admin.Note {
	p.mu.Lock()
	defer p.mu.Unlock()
	var notes []admin.Note
	for _, problem := range p.now {
		notes = append(notes, admin.Note{Level: slog.LevelWarn, Service: problem.Service, Text: problem.Text})
	}
	return notes
}
