package sidekickcmd

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNoPingsWhileStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		u := &systemd{log: slog.New(slog.NewTextHandler(&log, nil))}
		var trouble atomic.Pointer[error]
		var pings atomic.Int64
		done := make(chan struct{})
		ended := make(chan struct{})
		go func() {
			u.ping(15*time.Second, func() error {
				if err := trouble.Load(); err != nil {
					return *err
				}
				return nil
			}, done, func() { pings.Add(1) })
			close(ended)
		}()
		minute := func(want int64) {
			t.Helper()
			before := pings.Load()
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := pings.Load() - before; got != want {
				t.Errorf("got %d pings in a minute: want %d", got, want)
			}
		}
		synctest.Wait()
		if n := pings.Load(); n != 1 {
			t.Errorf("got %d pings at the start: want 1", n)
		}
		minute(4)
		err := errors.New("the renewal has not come round")
		trouble.Store(&err)
		minute(0)
		trouble.Store(nil)
		minute(4)
		close(done)
		<-ended
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "has not come round") {
			t.Errorf("log: got %s: want one line, with the reason", &log)
		}
	})
}
