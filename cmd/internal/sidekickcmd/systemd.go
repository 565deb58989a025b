package sidekickcmd

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"muster/sidekick"
)

// A systemd is told how its service is doing, if it started it.
type systemd struct {
	leaveLimit      func() time.Duration // how long leaving may take
	log             *slog.Logger
	ready, stopping bool
}

// notify says STATUS with each change, READY with the first announcement, and
// STOPPING once, with the time that leaving may take: TimeoutStopSec of the unit
// may be shorter.
func (u *systemd) notify(s sidekick.Status) {
	state := "STATUS=" + s.String()
	if s.Announced && !u.ready {
		u.ready = true
		state += "\n" + daemon.SdNotifyReady
	}
	if s.State == sidekick.Draining && !u.stopping {
		u.stopping = true
		state += fmt.Sprintf("\n%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, (u.leaveLimit() + 2*time.Second).Microseconds())
	}
	_, _ = daemon.SdNotify(false, state) // nobody may listen
}

// watch pings systemd's watchdog twice in its time, if there is one, while stuck
// has nothing to say. stop ends it.
func (u *systemd) watch(stuck func() error) (stop func()) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		u.log.Warn("no watchdog", "err", err)
	}
	if limit <= 0 {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		u.ping(limit/2, stuck, done, func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) })
	})
	return func() { close(done); wg.Wait() }
}

func (u *systemd) ping(every time.Duration, stuck func() error, done <-chan struct{}, ping func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	quiet := false
	for {
		err := stuck()
		if err == nil {
			ping()
		} else if !quiet {
			u.log.Error("stuck, so systemd's watchdog gets no ping", "err", err)
		}
		quiet = err != nil
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}
