// Package portable is the proxy's driver for every system: a goroutine for each
// connection, and a second one while its client sends a body, or is waited for.
// It carries WebSocket, server-sent events, trailers, interim answers and full
// duplex.
//
// What a message is, package http1 says; where a request goes, what is repeated
// and which error answers are given, package balance. This package tells them
// what came and what happened on the wire:
//
//	conn.serve ─head─> exchange.run ─> attempt ─> upstream ─head─> relay ─> the client
//	    ↑                  match       write, wait    │               bodies
//	    └── next request ──┘  helper: body up, watch ─┘
//
// A connection that waits holds no buffer: one is taken from a pool when there
// is something to read. Only one goroutine reads from a socket and one writes to
// it at a time:
//
//	            client reads      client writes    upstream reads   upstream writes
//	head        conn              -                -                -
//	upload      helper            exchange         exchange         helper
//	wait        helper, if long   -                exchange         -
//	relay       helper, if long   exchange         exchange         -
//
// A connection to an upstream is used again only when the request was sent whole,
// the answer was read whole, nothing came behind it and both sides keep it.
package portable

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"muster/proxy/balance"
)

// Config is what an Engine needs.
type Config struct {
	// Table is what every request reads.
	Table *atomic.Pointer[balance.Table]

	// Tally counts the answers made here without a service.
	Tally *balance.Tally

	// Record takes each request when it has ended; nil: nobody wants them. It
	// must not wait, nor keep the record or anything of it.
	Record func(*balance.Record)

	// Log gets what is wrong with the proxy itself; nil discards it.
	Log *slog.Logger
}

// An Engine serves HTTP from listeners and forwards it to upstreams. Its pools
// of connections are shared by all listeners.
type Engine struct {
	Config
	inFlight atomic.Int64
	panics   atomic.Uint64
	pools    sync.Map // *balance.Upstream → *pool
	date     date
	names    *names
	sweeper  sweeper
}

// New returns an engine that serves nothing yet.
func New(c Config) *Engine {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{Config: c, names: newNames(c.Log)}
}

// InFlight is the number of requests that are running, those without a service
// too.
func (e *Engine) InFlight() int64 { return e.inFlight.Load() }

// Panics is how many requests ended by a bug of ours.
func (e *Engine) Panics() uint64 { return e.panics.Load() }

// Forget closes the idle connections to u, which has left. Running requests
// keep theirs until they end.
func (e *Engine) Forget(u *balance.Upstream) {
	if p, ok := e.pools.LoadAndDelete(u); ok {
		p.(*pool).close()
	}
}

// Close closes all idle connections to upstreams. No request may be running.
func (e *Engine) Close() {
	e.names.close()
	e.pools.Range(func(u, _ any) bool {
		e.Forget(u.(*balance.Upstream))
		return true
	})
}
