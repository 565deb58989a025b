// Package proxy forwards HTTP to the endpoints of services. It never learns
// where those come from: package config makes a [Plan], and the proxy does what
// the newest plan says.
//
//	config ──Plan──> Update ──> balance.Table ──atomic swap──> portable ──> endpoints
//	                   │                                          │
//	                   └─> probes ──failing──> balance.Upstream <─┘ counts
//
// [Proxy.Update] builds a table aside, reusing every service that did not
// change, and swaps it in whole. [Proxy.Run] owns the listeners, the probes and
// the access log, and drains when its context ends. [Proxy.Status] and the
// [prometheus.Collector] that a Proxy is read the counters that requests keep.
package proxy

import (
	"io"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"muster/proxy/balance"
	"muster/proxy/portable"
)

// Config is what a proxy is made with; the plan says the rest. Its zero value
// works.
type Config struct {
	// Log gets what changed: listeners, failing endpoints. Nil discards it.
	Log *slog.Logger

	// AccessLog gets a line for each request, in the plan's format; nil: none.
	AccessLog io.Writer

	// Drain is how long running requests may go on once Run's context has
	// ended, or their listener has left the plan. Zero means 30s; negative
	// means cut them off at once.
	Drain time.Duration
}

// A Proxy forwards requests as its newest plan says.
type Proxy struct {
	log    *slog.Logger
	drain  time.Duration
	engine *portable.Engine
	access *accessLog
	probes *prober

	table atomic.Pointer[balance.Table] // every request reads it; Update replaces it
	tally balance.Tally                 // answers made here without a service
	ends  balance.Tally                 // all requests

	mu       sync.Mutex // guards what follows; no request takes it
	plan     *Plan
	routes   *balance.Routes
	services map[string]*service
	order    []*service               // as in the plan
	left     map[upstreamKey]departed // what is in no service any more, until it is idle and nobody wants it back
	grace    time.Duration            // leaveGrace
	sweeper  *time.Timer              // calls sweepLater
	sweeping bool                     // it is set
	members  []balance.Member         // room to build in
	rebuilt  []*service               // since the last table
	updates  uint64
	listened bool                 // Listen has opened what was planned at the start
	open     map[string]*listener // by Bind
	failing  map[string]string    // by Bind: why it could not be opened, as logged
	relisten chan struct{}        // holds one token while the plan's listeners may differ from open
}

// New returns a proxy without a plan: it answers everything with 503.
func New(c Config) *Proxy {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Drain == 0 {
		c.Drain = 30 * time.Second
	}
	p := &Proxy{
		log: c.Log, drain: c.Drain,
		plan:     &Plan{},
		services: make(map[string]*service),
		left:     make(map[upstreamKey]departed),
		grace:    leaveGrace,
		open:     make(map[string]*listener),
		failing:  make(map[string]string),
		relisten: make(chan struct{}, 1),
	}
	p.sweeper = time.AfterFunc(math.MaxInt64, p.sweepLater)
	p.access = newAccessLog(c.AccessLog, c.Log)
	p.engine = portable.New(portable.Config{Table: &p.table, Tally: &p.tally, Record: p.record, Log: c.Log})
	p.probes = newProber(c.Log, p.engine.Dial)
	return p
}

// record takes a request that has ended.
func (p *Proxy) record(r *balance.Record) {
	p.ends.Add(r.Why)
	p.access.take(r)
}

// Update makes plan the one in force: for requests at once, for listeners as
// soon as Run comes to it. It may be called before Run and at any time, by one
// goroutine at a time or by several.
func (p *Proxy) Update(plan *Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swap(plan)
	p.access.format.Store(&plan.AccessLog)
	relisten := !reflect.DeepEqual(plan.Listeners, p.plan.Listeners)
	p.plan = plan
	if relisten {
		select {
		case p.relisten <- struct{}{}:
		default:
		}
	}
}
