// Package portable is the proxy's driver for every system: net/http's server
// and its ReverseProxy, a goroutine for each connection. It carries WebSocket,
// server-sent events, trailers, interim answers and full duplex.
//
// Where a request goes, what is repeated and which error answers are given is
// decided by package balance; this package tells it what happened on the wire:
//
//	http.Server ─> Engine.ServeHTTP ─> ReverseProxy ─> Engine.RoundTrip ─┬─> http.Transport of an upstream
//	               match, record       heads, bodies    attempts        └─> … and of the next
package portable

import (
	"log/slog"
	"net/http"
	"net/http/httputil"
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
	// must not wait, and may keep the record.
	Record func(*balance.Record)

	// Log gets what is wrong with the proxy itself; nil discards it.
	Log *slog.Logger
}

// An Engine serves HTTP from listeners and forwards it to upstreams. Its pools
// of connections are shared by all listeners.
type Engine struct {
	Config
	proxy    *httputil.ReverseProxy
	inFlight atomic.Int64
	panics   atomic.Uint64
	pools    sync.Map // *balance.Upstream → *pool
}

// New returns an engine that serves nothing yet.
func New(c Config) *Engine {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{Config: c}
	e.proxy = &httputil.ReverseProxy{
		Transport:      e,
		Rewrite:        rewrite,
		ModifyResponse: modifyResponse,
		ErrorHandler:   failed,
		FlushInterval:  -1,
		BufferPool:     new(buffers),
		ErrorLog:       slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	return e
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
	e.pools.Range(func(u, _ any) bool {
		e.Forget(u.(*balance.Upstream))
		return true
	})
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

const bufferBytes = 32 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferBytes]byte); ok {
		return p[:]
	}
	return make([]byte, bufferBytes)
}

func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferBytes]byte)(p)) }

var _ http.RoundTripper = (*Engine)(nil)
