package sidekickcmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"muster/sidekick"
)

// forOne are the flags that say something of one app, and so nothing beside
// -config.
var forOne = []string{"addr", "id", "route", "port-env", "stop-timeout"}

// completeDefaults makes f.cfg what the tables of -config begin with.
func (f *flags) completeDefaults(names, command []string) error {
	switch {
	case len(names) > 0:
		return fmt.Errorf("%q: want no NAME beside -config, whose tables have it", names[0])
	case command != nil:
		return errors.New("-- CMD: want it without -config, as both end together")
	}
	for _, name := range forOne {
		if f.Given(name) {
			return fmt.Errorf("-%s: want it without -config, in whose [[announce]] tables each app has its own", name)
		}
	}
	return f.common()
}

// A fileError says what is wrong with the files of -config.
type fileError struct{ error }

// A many is the sidekicks of -config.
type many struct {
	*sidekick.Group
	load  func() ([]sidekick.File, error)
	beats bool // they can be told
	log   *slog.Logger

	apps map[string][]sidekick.Config // by file, as they were read well last
}

// many reads -config for the first time.
func (f *flags) many(ctx context.Context, env foreign, lease sidekick.Lease, tell *systemd) (announcer, error) {
	g, err := f.group(lease, tell)
	if err != nil {
		return nil, err
	}
	m := &many{Group: g, log: tell.log, beats: f.status != ""}
	m.load = func() ([]sidekick.File, error) { return sidekick.Load(f.config, f.cfg, f.hosts(ctx, env)) }
	if err := m.read(true); err != nil {
		return nil, &fileError{err}
	}
	return m, nil
}

// group is one of nobody yet, of -config or -docker.
func (f *flags) group(lease sidekick.Lease, tell *systemd) (*sidekick.Group, error) {
	g, err := sidekick.NewGroup(sidekick.GroupConfig{Lease: lease, Keep: f.cfg.Keep, Log: tell.log, Notify: tell.notify})
	if err != nil {
		return nil, err
	}
	tell.leaveLimit = g.LeaveLimit
	return g, nil
}

// hosts chooses the host of each table that has none. It asks once for all that
// want the same: the resolver may be slow to say that it does not know etcd.
func (f *flags) hosts(ctx context.Context, env foreign) sidekick.HostFunc {
	type answer struct {
		host string
		err  error
	}
	known := make(map[[2]string]answer)
	return func(iface, cidr string) (string, error) {
		if iface == "" && cidr == "" {
			iface, cidr = f.iface, f.cidr
		}
		a, ok := known[[2]string{iface, cidr}]
		if !ok {
			a.host, _, a.err = f.chosenHost(ctx, env, iface, cidr)
			known[[2]string{iface, cidr}] = a
		}
		return a.host, a.err
	}
}

// read announces what the files say now. Where whole is false, a bad file is in
// the error and goes for what it was when it was read well last; else it keeps
// all from being taken.
func (m *many) read(whole bool) error {
	files, err := m.load()
	if err != nil {
		return err
	}
	var wrong []error
	apps := make(map[string][]sidekick.Config, len(files))
	var all []sidekick.Config
	for _, file := range files {
		if file.Err == nil && !m.beats {
			file.Err = unbeaten(file.Apps)
		}
		if file.Err != nil {
			wrong = append(wrong, file.Err)
			file.Apps = m.apps[file.Name]
		}
		apps[file.Name] = file.Apps
		all = append(all, file.Apps...)
	}
	if len(wrong) == 0 || !whole {
		if err := m.Set(all); err != nil {
			wrong = append(wrong, err)
		} else {
			m.apps = apps
		}
	}
	return errors.Join(wrong...)
}

// unbeaten says which apps have no place where they could beat.
func unbeaten(apps []sidekick.Config) error {
	var wrong []error
	for _, c := range apps {
		if beats(c.Checks) {
			wrong = append(wrong, fmt.Errorf("%s: health heartbeat: wants -status too, where the app beats", c.Source))
		}
	}
	return errors.Join(wrong...)
}

// Signal reads the files again on SIGHUP.
func (m *many) Signal(sig os.Signal) {
	if sig != syscall.SIGHUP {
		return
	}
	if err := m.read(false); err != nil {
		m.log.Error("not every file was taken: what is wrong goes on as it was", "err", err)
		return
	}
	m.log.Info("files were read again")
}

// Kill does nothing: there is no app of ours.
func (m *many) Kill() {}
