package sidekickcmd

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"muster/cmd/internal/cli"
)

// A signalled is told of the signals that do not end the process at once.
type signalled interface {
	Signal(sig os.Signal)
	Kill()
	Reap()
}

// forwarded are the signals that are for the app or, with -config, HUP for the
// sidekick itself. The others do nothing where there is no app.
var forwarded = []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH}

// signals is [cli.Signals], and the second signal kills the app. What the app
// should hear is handed to it, and as process 1 it reaps orphans. stop undoes it
// all. It does not wait for a file that is being read: that may never end, and the
// process does.
func signals(parent context.Context, s signalled) (ctx context.Context, stop func()) {
	ctx, forget := cli.Signals(parent, s.Kill)
	c := make(chan os.Signal, 4)
	signal.Notify(c, forwarded...)
	orphans := make(chan os.Signal, 1) // on its own: however many come, the others are not lost
	if os.Getpid() == 1 {
		signal.Notify(orphans, syscall.SIGCHLD)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-orphans:
				s.Reap()
			case sig := <-c:
				s.Signal(sig)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		signal.Stop(orphans)
		close(done)
		forget()
	}
}
