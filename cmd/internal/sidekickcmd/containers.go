package sidekickcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"muster/catalog"
	"muster/internal/docker"
	"muster/sidekick"
)

// completeContainers makes f.cfg what the containers of -docker begin with, and
// finds where their ports are reached.
func (f *flags) completeContainers(ctx context.Context, env foreign, names, command []string) error {
	switch {
	case len(names) > 0:
		return fmt.Errorf("%q: want no NAME beside -docker: containers have it by label", names[0])
	case command != nil:
		return errors.New("-- CMD: want it without -docker, as both end together")
	case f.config != "":
		return errors.New("-config: want it without -docker, in a sidekick of its own")
	}
	for _, name := range forOne {
		if f.Given(name) {
			return fmt.Errorf("-%s: want it without -docker: containers have it by label", name)
		}
	}
	f.engine = docker.Config{Host: f.cfg.DockerHost, Network: f.network, Remote: true}
	if err := f.common(); err != nil {
		return err
	}
	host, now, err := f.chosenHost(ctx, env, f.iface, f.cidr)
	if err != nil && f.network == "" { // on a network, only those of the machine's own need it
		if now {
			return err
		}
		return &notNowError{err}
	}
	f.engine.HostIP = host
	return f.engine.Check()
}

// A containers is the sidekicks of -docker.
type containers struct {
	*sidekick.Group
	engine   docker.Config
	defaults sidekick.Config
	log      *slog.Logger
}

// containers is the sidekick of the labelled containers of this machine.
func (f *flags) containers(lease sidekick.Lease, tell *systemd) (announcer, error) {
	g, err := f.group(lease, tell)
	if err != nil {
		return nil, err
	}
	f.engine.Log = tell.log
	return &containers{Group: g, engine: f.engine, defaults: f.cfg, log: tell.log}, nil
}

// Run announces what the containers ask for until ctx ends, then all of it is
// withdrawn.
func (c *containers) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	following, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() { c.follow(following) })
	return c.Group.Run(ctx)
}

// follow sets the group to what the engine tells. While that is away, what it told
// last stays.
func (c *containers) follow(ctx context.Context) {
	f := docker.Follow(ctx, c.engine)
	defer f.Close()
	said := ""                       // the engine's error
	wrong := make(map[string]string) // by container
	for {
		apps, err := f.Apps(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && err.Error() != said:
			said = err.Error()
			c.log.Error("the engine is away, what it told last stays announced", "err", err)
		case err == nil:
			if said != "" {
				said = ""
				c.log.Info("the engine is back")
			}
			wrong = c.set(apps, wrong)
		}
		select {
		case <-f.Changed:
		case <-ctx.Done():
			return
		}
	}
}

// set announces those of apps that are up. What is wrong with one is said once, and
// hurts no other; it returns all that is wrong.
func (c *containers) set(apps []docker.App, said map[string]string) (wrong map[string]string) {
	wrong = make(map[string]string)
	var all []sidekick.Config
	for _, app := range apps {
		if app.State != catalog.Up {
			continue
		}
		cfg := c.config(app)
		if err := cfg.Wrong(); err != nil {
			wrong[app.Container] = err.Error()
			if said[app.Container] != err.Error() {
				c.log.Warn("container not announced", "container", app.Container, "err", err)
			}
			continue
		}
		all = append(all, cfg)
	}
	if err := c.Set(all); err != nil {
		c.log.Error("containers not announced", "err", err) // each of them was well
	}
	return wrong
}

// config is what a container says over the flags.
func (c *containers) config(app docker.App) sidekick.Config {
	cfg := c.defaults
	cfg.Service, cfg.ID, cfg.Addr, cfg.Source = app.Service, app.ID, app.Addr, "container "+app.Container
	if app.Check != "" {
		cfg.Checks = []string{app.Check}
	}
	cfg.Interval, cfg.Timeout = cmp.Or(app.Interval, cfg.Interval), cmp.Or(app.Timeout, cfg.Timeout)
	switch app.Weight {
	case catalog.DefaultWeight: // it does not say
	case 0:
		cfg.Weight = -1
	default:
		cfg.Weight = app.Weight
	}
	cfg.Zone = cmp.Or(app.Zone, cfg.Zone)
	cfg.Routes = app.Routes
	if app.Tags != nil {
		cfg.Tags = app.Tags
	}
	if app.Labels != nil {
		cfg.Labels = app.Labels
	}
	return cfg
}

// Signal does nothing: there are no files and no app of ours.
func (c *containers) Signal(os.Signal) {}

// Kill does nothing either.
func (c *containers) Kill() {}
