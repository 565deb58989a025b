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
	open   func(nodes []string) (backends.Store, error)
	log    *slog.Logger

	mu    sync.Mutex
	now   *place
	asked time.Time
}

// A place is the store at some nodes.
type place struct {
	backends.Store
	nodes   []string
	watches int
}

// Watch yields what the store says, wherever it is. A move is an error and then
// a Full Change.
func (m *movable) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		for again := true; again && ctx.Err() == nil; {
			again = m.watch(ctx, prefixes, yield)
		}
	}
}

func (m *movable) watch(ctx context.Context, prefixes []string, yield func(backends.Change, error) bool) (again bool) {
	p := m.enter()
	defer m.leave(p)
	for c, err := range p.Watch(ctx, prefixes) {
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
	m.now.watches++
	return m.now
}

// leave closes a place that nobody is at any more.
func (m *movable) leave(p *place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.watches--; p.watches == 0 && p != m.now {
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
	m.now = &place{Store: store, nodes: nodes}
	return true
}

// sameSet compares without order, which is random among equal records.
func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// Reach is the store's, where it has it.
func (m *movable) Reach(ctx context.Context) error { return reach(ctx, m.now.Store) }

// Close closes the place where the store is.
func (m *movable) Close() error { return m.now.Close() }
