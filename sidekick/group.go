package sidekick

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A GroupConfig says under which lease a [Group] announces.
type GroupConfig struct {
	Lease Lease
	Keep  bool         // leave what is announced to the next process, see [Config]
	Log   *slog.Logger // nil: no log

	// Notify, if it is set, is called after each change of the Status, one call
	// at a time. Run waits for it.
	Notify func(Status)
}

// A Group is several sidekicks in one process, under one lease. Which apps it
// announces is said by [Group.Set], before Run and while it runs.
type Group struct {
	cfg      GroupConfig
	log      *slog.Logger
	children *children
	changed  chan struct{} // slot of one: there may be something to start or to end

	telling sync.Mutex // held while Notify is called
	told    Status

	mu      sync.Mutex // guards what follows
	wanted  map[place]Config
	members map[place]*member
	leaving bool
}

// A place is where an app is announced.
type place struct{ prefix, service, id string }

func (p place) String() string { return p.prefix + "/" + p.service + "/" + p.id }

// A member is a sidekick of a group, from its start until it has left.
type member struct {
	cfg  Config // as it was wanted
	side *Sidekick
	part *share

	stop  context.CancelFunc
	ended chan struct{} // closed behind Run
	going atomic.Bool   // it is not wanted any more
}

// NewGroup returns a group of nobody.
func NewGroup(c GroupConfig) (*Group, error) {
	if err := (Config{Lease: c.Lease, Keep: c.Keep}).checkLease(); err != nil {
		return nil, err
	}
	return &Group{
		cfg:      c,
		log:      cmp.Or(c.Log, slog.New(slog.DiscardHandler)),
		children: newChildren(),
		changed:  make(chan struct{}, 1),
		wanted:   make(map[place]Config),
		members:  make(map[place]*member),
	}, nil
}

// Set makes apps what the group announces: what is new among them is announced
// when its checks pass, and what is missing is withdrawn and drained. What is as
// it was goes on untouched; what differs but for its key takes over what its
// former self has announced, so that nobody sees it go. Where something is wrong
// the error says all of it, and nothing is changed. The Lease, Log and Notify of
// apps are the group's.
func (g *Group) Set(apps []Config) error {
	wanted := make(map[place]Config, len(apps))
	var wrong []error
	for _, c := range apps {
		c.Lease, c.Log, c.Notify, c.Keep = nil, nil, nil, g.cfg.Keep
		err := c.Wrong()
		if c.App != nil {
			err = errors.Join(err, errors.New("an app of the sidekick's own: want it alone in its process"))
		}
		d := c.withDefaults()
		at := place{d.Prefix, d.Service, d.ID}
		if other, twice := wanted[at]; twice {
			err = errors.Join(err, fmt.Errorf("%s is announced already, by %s", at, cmp.Or(other.Source, "another one")))
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", cmp.Or(c.Source, at.String()), err))
			continue
		}
		wanted[at] = c
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	g.mu.Lock()
	g.wanted = wanted
	g.mu.Unlock()
	g.wake()
	return nil
}

func (g *Group) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// Run announces until ctx ends; then all of them leave, at the same time. It
// returns when everything it started has ended. The error is the lease's. Run
// can be called once.
func (g *Group) Run(ctx context.Context) error {
	running, end := context.WithCancel(ctx)
	defer end()
	// The lease outlives ctx: leaving needs it.
	leasing, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	var leaseErr error
	var lease, members sync.WaitGroup
	lease.Go(func() {
		if leaseErr = g.cfg.Lease.Run(leasing); leaseErr != nil {
			end()
		}
	})
	lease.Go(func() { g.tellLost(leasing) })
	for running.Err() == nil {
		g.converge(running, &members)
		g.tell()
		select {
		case <-g.changed:
		case <-running.Done():
		}
	}
	g.mu.Lock()
	g.leaving = true
	g.mu.Unlock()
	g.tell()
	members.Wait()
	g.giveBack(leasing)
	release()
	lease.Wait()
	if leaseErr != nil {
		return fmt.Errorf("lease: %w", leaseErr)
	}
	return nil
}

// converge starts what is wanted and ends what is not.
func (g *Group) converge(ctx context.Context, running *sync.WaitGroup) {
	g.mu.Lock()
	defer g.mu.Unlock()
	former := make(map[place]map[string]string)
	for at, m := range g.members {
		select {
		case <-m.ended:
			if m.part.kept {
				former[at] = m.side.keys.values()
			}
			delete(g.members, at)
			continue
		default:
		}
		c, wanted := g.wanted[at]
		switch {
		case m.going.Load() || wanted && same(c, m.cfg):
			continue
		case wanted:
			m.side.handOver.Store(true) // the next one takes what it has announced
		}
		m.going.Store(true)
		m.stop()
	}
	for at, c := range g.wanted {
		if g.members[at] != nil {
			continue
		}
		if m := g.start(ctx, c, former[at], running); m != nil {
			g.members[at] = m
		}
	}
}

// start runs a sidekick. g.mu is held.
func (g *Group) start(ctx context.Context, c Config, former map[string]string, running *sync.WaitGroup) *member {
	m := &member{cfg: c, part: newShare(g.cfg.Lease, former), ended: make(chan struct{})}
	c.Lease, c.Log, c.children = m.part, g.log, g.children
	c.Notify = func(Status) { g.tell() }
	var err error
	if m.side, err = New(c); err != nil {
		g.log.Error("not announced", "key", c.Source, "err", err) // Set has checked it
		return nil
	}
	ctx, m.stop = context.WithCancel(ctx)
	running.Go(func() {
		defer g.wake()
		defer close(m.ended)
		defer m.stop()
		_ = m.side.Run(ctx) // it has neither an app nor a lease of its own to fail
	})
	return m
}

// same reports whether two configurations are one, wherever they were read.
func same(a, b Config) bool {
	a.Source, b.Source = "", ""
	return reflect.DeepEqual(a, b)
}

// tellLost tells all of them when the lease was lost, until ctx ends.
func (g *Group) tellLost(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.cfg.Lease.Lost():
		}
		g.mu.Lock()
		for _, m := range g.members {
			select {
			case m.part.lost <- struct{}{}:
			default:
			}
		}
		g.mu.Unlock()
	}
}

// giveBack ends the lease, or leaves it to the next process with what is
// announced under it. All members have ended.
func (g *Group) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, revokeLimit)
	defer cancel()
	kept := false
	for _, m := range g.members {
		kept = kept || m.part.kept
	}
	if lease, ok := g.cfg.Lease.(keeping); ok && kept {
		_ = lease.Keep(ctx) // without an answer there is less of the TTL left
		return
	}
	_ = g.cfg.Lease.Revoke(ctx) // what is left of it runs out by itself
}

// LeaveLimit is how long leaving may take, at most: that of the slowest.
func (g *Group) LeaveLimit() time.Duration {
	limit := Config{Drain: -1}.LeaveLimit()
	for _, m := range g.all() {
		limit = max(limit, m.cfg.LeaveLimit())
	}
	return limit + revokeLimit
}

// all are the members in the order of their keys.
func (g *Group) all() []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *member) int {
		return cmp.Or(strings.Compare(a.cfg.Service, b.cfg.Service), strings.Compare(a.side.cfg.ID, b.side.cfg.ID))
	})
	return all
}

// Reap waits for orphans that have ended, see [Sidekick.Reap].
func (g *Group) Reap() { g.children.reap() }
