package sidekickcmd

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"muster/sidekick"
)

// forwarded are the signals that are for the app. Without one they do nothing:
// the sidekick itself has no file to read again.
var forwarded = []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH}

// signals returns a context that ends with the first SIGTERM or SIGINT. The
// second kills the app and ends the process at once, with 128 + its number. (For
// the first half alone there is cli.Signals, which knows of no app.) What the app
// should hear is handed to it. stop undoes it all.
func signals(parent context.Context, s *sidekick.Sidekick) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	c := make(chan os.Signal, 4)
	signal.Notify(c, append(forwarded, syscall.SIGTERM, syscall.SIGINT)...)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
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
		close(done)
		cancel()
	}
}
