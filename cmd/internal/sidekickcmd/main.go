// Package sidekickcmd is the command "muster sidekick", which cmd/sidekick is
// made of too. It reads flags and environment, opens etcd, and hands signals and
// systemd's wishes to package sidekick.
package sidekickcmd

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"muster/backends/etcd"
	"muster/cmd/internal/cli"
	"muster/sidekick"
)

// Main runs the command until ctx ends or a signal comes, and returns its exit
// code: with an app of its own (behind "--") the app's, 128+n if a signal ended
// it.
func Main(ctx context.Context, std cli.Std, args []string) int {
	f := newFlags(std)
	cfg, code, ok := f.parse(std, args)
	if !ok {
		return code
	}
	log := f.log()
	store, err := etcd.Open(f.store, log)
	if err != nil {
		return f.Wrong(std, "-store: %v", err)
	}
	defer store.Close()
	cfg.Lease, cfg.Log = store.Lease(f.ttl), log
	cfg.Notify = new(unit).notify
	s, err := sidekick.New(cfg)
	if err != nil {
		return f.Wrong(std, "%v", err)
	}
	ctx, stop := signals(ctx, s)
	defer stop()
	return exitCode(log, s.Run(ctx))
}

// exitCode is what the command's life came to, with err as Run returned it.
func exitCode(log *slog.Logger, err error) int {
	if err == nil {
		return cli.Done
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		log.Error("failed", "err", err)
		return cli.Failed
	}
	log.Info("the app has ended", "err", err)
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// A unit tells systemd how its service is doing, if systemd started it.
type unit struct{ ready, stopping bool }

func (u *unit) notify(s sidekick.Status) {
	text := s.State
	if why := cmp.Or(s.Trouble, s.Reason); why != "" {
		text += ": " + strings.ReplaceAll(why, "\n", " ")
	}
	state := "STATUS=" + text
	if s.Announced && !u.ready {
		u.ready = true
		state += "\n" + daemon.SdNotifyReady
	}
	if s.State == sidekick.Draining && !u.stopping {
		u.stopping = true
		state += "\n" + daemon.SdNotifyStopping
	}
	_, _ = daemon.SdNotify(false, state) // nobody may listen
}

// environ is the app's environment.
func environ(extra ...string) []string { return append(os.Environ(), extra...) }
