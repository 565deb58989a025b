package sidekickcmd

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"
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

// signals returns a context that ends with the first SIGTERM or SIGINT. The
// second kills the app and ends the process at once, with 128 + its number. (For
// the first half alone there is cli.Signals, which knows of no app.) What the app
// should hear is handed to it, and as process 1 it reaps orphans. stop undoes it all.
func signals(parent context.Context, s signalled) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	c := make(chan os.Signal, 4)
	signal.Notify(c, append(slices.Clone(forwarded), syscall.SIGTERM, syscall.SIGINT)...)
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
				switch {
				case sig != syscall.SIGTERM && sig != syscall.SIGINT:
					s.Signal(sig)
				case ctx.Err() == nil:
					cancel()
				default:
					s.Kill()
					os.Exit(128 + int(sig.(syscall.Signal)))
				}
			}
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		signal.Stop(orphans)
		close(done)
		cancel()
	}
}
