package confd

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/backends"
)

// lookupSRV returns the nodes that the SRV record names, in the resolver's
// order.
func (std *program) lookupSRV(ctx context.Context, o *options) (nodes []string, err error) {
	_, records, err := std.dns.LookupSRV(ctx, "", "", o.SRVRecord)
	if err != nil {
		//lint:ignore ST1005 scripts know confd's words
		return nil, fmt.Errorf("Cannot get nodes from SRV records %w", err)
	}
	for _, r := range records {
		node := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), fmt.Sprint(r.Port))
		if o.Backend == "etcd" {
			node = o.Scheme + "://" + node
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// A movable store asks for its nodes again when it is lost, and moves to the
// new ones. The original asks once, at the start.
type movable struct {
	lookup func(context.Context) ([]string, error)
	open   func(nodes []string) (backends.Together, error)
	log    *slog.Logger

	mu    sync.Mutex
	now   *place
	asked time.Time
}

var _ backends.Together = (*movable)(nil)

// A place is the store at some nodes.
type place struct {
	backends.Together
	nodes []string
	users int
}

// Read is the store's, wherever it is: where it moved it is asked once more.
func (m *movable) Read(ctx context.Context, prefixes []string) (backends.Change, error) {
	p := m.enter()
	c, err := p.Read(ctx, prefixes)
	moved := err != nil && m.moved(ctx, p)
	m.leave(p)
	if moved {
		return m.Read(ctx, prefixes)
	}
	return c, err
}

// Watch yields what the store says, wherever it is. A move is an error and then
// a Full Change.
func (m *movable) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return m.follow(ctx, prefixes, backends.Together.Watch)
}

// WatchTogether is to the store's as Watch is.
func (m *movable) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return m.follow(ctx, prefixes, backends.Together.WatchTogether)
}

// A watch is one of the two that a store has.
type watch func(backends.Together, context.Context, []string) iter.Seq2[backends.Change, error]

func (m *movable) follow(ctx context.Context, prefixes []string, at watch) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		for again := true; again && ctx.Err() == nil; {
			again = m.stay(ctx, prefixes, at, yield)
		}
	}
}

// stay follows the store at one place.
func (m *movable) stay(ctx context.Context, prefixes []string, at watch, yield func(backends.Change, error) bool) (again bool) {
	p := m.enter()
	defer m.leave(p)
	for c, err := range at(p, ctx, prefixes) {
		if !yield(c, err) {
			return false
		}
		if err != nil && m.moved(ctx, p) {
			return true
		}
	}
	return false
}

func (m *movable) enter() *place {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.users++
	return m.now
}

// leave closes a place that nobody is at any more.
func (m *movable) leave(p *place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.users--; p.users == 0 && p != m.now {
		_ = p.Close()
	}
}

// moved reports whether the store is no longer at p. It asks for the nodes at
// most once a second.
func (m *movable) moved(ctx context.Context, p *place) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now != p {
		return true
	}
	if time.Since(m.asked) < time.Second {
		return false
	}
	m.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	nodes, err := m.lookup(ctx)
	if err != nil || len(nodes) == 0 || sameSet(nodes, p.nodes) {
		return false
	}
	store, err := m.open(nodes)
	if err != nil {
		m.log.Error(err.Error())
		return false
	}
	m.log.Info("Backend source(s) set to " + strings.Join(nodes, ", "))
	m.now = &place{Together: store, nodes: nodes}
	return true
}

// sameSet compares without order, which is random among equal records.
func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// Reach is the store's, where it has it.
func (m *movable) Reach(ctx context.Context) error { return reach(ctx, m.now.Together) }

// Close closes the place where the store is.
func (m *movable) Close() error { return m.now.Close() }
