// Package sidekickcmd is the command "muster sidekick", which cmd/sidekick is
// made of too. It reads flags and environment, chooses the address, opens etcd,
// hands signals to package sidekick, serves its status and tells systemd how it
// is doing. "muster unit" prints the unit for it.
package sidekickcmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"runtime"
	"syscall"

	"muster/backends/etcd"
	"muster/cmd/internal/cli"
	"muster/sidekick"
)

// Main runs the command until ctx ends or a signal comes, and returns its exit
// code: with an app of its own (behind "--") the app's, 128+n if a signal ended
// it.
func Main(ctx context.Context, std cli.Std, args []string) int {
	f := newFlags(std)
	if code, ok := f.parse(ctx, std, args); !ok {
		return code
	}
	if std.Getenv("GOMAXPROCS") == "" {
		// There is seldom work for two. Waking a second thread for it is a third
		// of what an idle sidekick costs.
		runtime.GOMAXPROCS(1)
	}
	log := f.log()
	store, err := etcd.Open(f.store, log)
	if err != nil {
		return f.Wrong(std, "-store: %v", err)
	}
	defer store.Close()
	lease := store.Lease(f.ttl)
	lease.TakeOver, lease.File = f.takeOver, foreign(std.Getenv).leaseFile(f)
	tell := &systemd{log: log}
	var a announcer
	switch {
	case f.docker:
		a, err = f.containers(lease, tell)
	case f.config != "":
		a, err = f.many(ctx, foreign(std.Getenv), lease, tell)
	default:
		a, err = f.one(lease, tell)
	}
	if bad, ok := errors.AsType[*fileError](err); ok {
		fmt.Fprintln(std.Err, bad)
		return cli.Failed
	}
	if err != nil {
		return f.Wrong(std, "%v", err)
	}
	if f.status != "" {
		status, err := serveStatus(f.status, a.Handler())
		if err != nil {
			log.Error("failed", "err", fmt.Errorf("-status: %w", err))
			return cli.Failed
		}
		defer status.close()
	}
	defer tell.watch(a.Stuck)()
	ctx, stop := signals(ctx, a)
	defer stop()
	return exitCode(log, a.Run(ctx))
}

// An announcer is what runs: one sidekick, or those of -config or -docker.
type announcer interface {
	Run(ctx context.Context) error
	Handler() http.Handler
	Stuck() error
	signalled
}

// one is the sidekick of NAME and the flags.
func (f *flags) one(lease sidekick.Lease, tell *systemd) (announcer, error) {
	cfg := f.cfg
	cfg.Lease, cfg.Log, cfg.Notify = lease, tell.log, tell.notify
	tell.leaveLimit = cfg.LeaveLimit
	return sidekick.New(cfg)
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
