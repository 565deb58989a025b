package discovery

import (
	"context"
	"slices"
	"strings"
	"time"

	"muster/backends"
)

// switchKey switches the protection off for the whole fleet while its value is
// off.
const switchKey = "/muster/protect"

// followSwitch tells each new position of the switch until ctx ends. It has a
// watch of its own: who may not read the key is protected.
func (w *Watcher) followSwitch(ctx context.Context, switched chan<- bool) {
	feed := backends.NewFeed(ctx, w.cfg.Store, switchKey)
	defer feed.Close()
	on := true
	for {
		c, err := feed.Next(ctx)
		switch {
		case ctx.Err() != nil, err == backends.ErrClosed:
			return
		case err != nil:
			continue // what follows the services tells of it
		}
		now := on
		if c.Full || slices.Contains(c.Deleted, switchKey) {
			now = true
		}
		for _, kv := range c.Put {
			if kv.Key == switchKey {
				now = strings.TrimSpace(kv.Value) != "off"
			}
		}
		if now == on {
			continue
		}
		select {
		case switched <- now:
			on = now
		case <-ctx.Done():
			return
		}
	}
}

// setProtection moves the switch.
func (w *Watcher) setProtection(on bool) {
	w.cfg.Log.Warn("protection against mass expiry was switched", "on", on, "key", switchKey)
	w.guard.on = on
	held := len(w.guard.held) > 0
	if !on {
		w.settle(w.guard.off(), held)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.protect.Off = !on
}

// showHolds tells status, log and verifier that the holds are others. w.mu is
// held.
func (w *Watcher) showHolds(now time.Time) {
	g, p := &w.guard, &w.protect
	var holds []*hold
	for _, h := range g.held {
		holds = append(holds, h)
	}
	p.Held, p.Services = len(holds), services(holds)
	switch {
	case p.Held > 0 && p.Since.IsZero():
		p.Since = now
	case p.Held > 0 && g.found && (g.told == 0 || g.told == 1 && p.Held > 1):
		g.told = p.Held
		text := "many endpoints expired at once: they stay while they answer their check"
		if p.Held == 1 {
			text = "an endpoint expired, the last one or one of many: it stays while it answers its check"
		}
		w.cfg.Log.Warn(text, "held", p.Held, "services", p.Services)
	case p.Held == 0 && !p.Since.IsZero():
		if g.told > 0 {
			w.cfg.Log.Info("no expired endpoint is held any more", "after", now.Sub(p.Since).Round(time.Millisecond), "announced", g.returned, "gone", g.gone)
		}
		p.Since, g.returned, g.gone, g.found, g.told = time.Time{}, 0, 0, false, 0
	}
	w.verify.set(holds)
}
