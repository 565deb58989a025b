// Package admin is the second listener of a process: what it is doing, for
// people and for programs.
//
//	/                 the status page; without JavaScript it refreshes itself
//	/api/v1/status    the same as JSON, a [Status]
//	/api/v1/stream    the same as server-sent events, once a second
//	/metrics          Prometheus
//	/healthz          200 while the process lives
//	/readyz           200 while it can serve: not before the first snapshot, not while leaving
//
// One goroutine, the sampler, asks the balancer once a second and remembers a
// minute; everything else is computed when somebody looks. Nothing here can
// change anything: it only reads.
//
//	Balancer.Overview ──sampler──> rows (60 s) ──view──> page, JSON, stream
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"muster/discovery"
	"muster/proxy"
)

// A Balancer is what the page is about; [proxy.Proxy] is one.
type Balancer interface {
	Ready() bool
	Overview(most int) proxy.Status
}

// A Store says how fresh the services are; [discovery.Watcher] is one.
type Store interface{ Status() discovery.Status }

// A Config says where to listen and what to show.
type Config struct {
	Bind     string        // HOST:PORT
	Balancer Balancer      // required
	Store    Store         // nil: there is no store
	StoreURL string        // of the store as people may see it: without a password
	Notes    func() []Note // what people should know, beside what the store says; nil: nothing
	Version  string        // of this program; empty: not shown

	// Metrics is what /metrics answers; nil means an empty page.
	Metrics prometheus.Gatherer

	// Token opens everything; /metrics, /healthz and /readyz need none. Without
	// a token the rest answers on a loopback address only.
	Token string

	Log *slog.Logger // nil means slog.Default()
}

// A Note is something that people should know: why a service is not exposed,
// which line of a file was not taken.
type Note struct {
	Level   slog.Level `json:"level"`
	Service string     `json:"service,omitempty"`
	Text    string     `json:"text"` // what it is, and what to do about it
}

// An Admin serves the second listener.
type Admin struct {
	cfg      Config
	host     string // the name of this machine
	started  time.Time
	listener net.Listener
	sampler  *sampler
	leaving  atomic.Bool
	patience time.Duration // with who reads the stream
}

// New returns the Admin of cfg. It has its address already: what can be wrong
// with that is known before anything is started. Run serves there.
func New(cfg Config) (*Admin, error) {
	if cfg.Balancer == nil {
		return nil, errors.New("admin: want a Balancer")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	l, err := net.Listen("tcp", cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "muster"
	}
	a := &Admin{cfg: cfg, host: host, started: time.Now(), listener: l, patience: patience}
	a.sampler = newSampler(cfg.Balancer)
	return a, nil
}

// Addr is the address it listens on, with the port that was taken.
func (a *Admin) Addr() net.Addr { return a.listener.Addr() }

// Close gives the address back. Only an Admin that never runs needs it.
func (a *Admin) Close() error { return a.listener.Close() }

// Leave makes /readyz answer 503 from now on, so that nobody sends more.
func (a *Admin) Leave() { a.leaving.Store(true) }

// Run serves until ctx ends; then it cuts the streams, lets other answers
// finish, and gives the address back.
func (a *Admin) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before wg.Wait
	if a.cfg.Token == "" && !a.loopback() {
		a.cfg.Log.Warn("admin: others can reach this address and there is no token: only /metrics, /healthz and /readyz answer", "addr", a.Addr().String())
	}
	a.sampler.sample(time.Now())
	wg.Go(func() { a.sampler.run(ctx) })

	server := &http.Server{
		Handler:           a.handler(ctx),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(a.cfg.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	wg.Go(func() { served <- server.Serve(a.listener) })
	select {
	case err := <-served:
		return fmt.Errorf("admin: %w", err)
	case <-ctx.Done():
	}
	leave, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	if server.Shutdown(leave) != nil {
		server.Close()
	}
	return ctx.Err()
}

// handler answers until ctx ends, which also ends the streams.
func (a *Admin) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics())
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	guarded := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, a.guard(h)) }
	guarded("GET /{$}", a.page)
	guarded("GET /page.css", asset("page.css", "text/css; charset=utf-8"))
	guarded("GET /page.js", asset("page.js", "text/javascript; charset=utf-8"))
	guarded("GET /icon.svg", asset("icon.svg", "image/svg+xml"))
	guarded("GET /api/v1/status", a.status)
	guarded("GET /api/v1/stream", func(w http.ResponseWriter, r *http.Request) { a.stream(ctx, w, r) })
	return secure(mux)
}
