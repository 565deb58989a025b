package proxy

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"muster/catalog"
	"muster/proxy/balance"
)

const (
	maxProbes    = 64          // that run at the same time
	probeTimeout = time.Second // of one that says nothing else
)

// A prober asks the upstreams that declare how, and marks those that fail.
type prober struct {
	log  *slog.Logger
	dial dialer
	wake chan struct{} // holds one token while the next probe may be due earlier

	mu     sync.Mutex // guards what follows
	probes map[*balance.Upstream]*probe
	due    schedule // the probes that don't run now
}

// A probe is one upstream being probed.
type probe struct {
	upstream *balance.Upstream
	health   catalog.Health // with its defaults
	next     time.Time
	index    int // in the schedule; -1 while it runs
	gone     bool
	passes   int // in a row
	failures int // in a row
}

// A dialer connects to HOST:PORT.
type dialer func(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error)

func newProber(log *slog.Logger, dial dialer) *prober {
	return &prober{log: log, dial: dial, wake: make(chan struct{}, 1), probes: make(map[*balance.Upstream]*probe)}
}

// set says how u is probed from now on; nil, or what declares no check: not at
// all, and it does not fail.
func (p *prober) set(u *balance.Upstream, health *catalog.Health) {
	var h catalog.Health
	if health != nil {
		h = *health
	}
	probed := h.HTTP != "" || h.TCP
	h.Interval = cmp.Or(h.Interval, catalog.Duration(2*time.Second))
	h.Timeout = cmp.Or(h.Timeout, catalog.Duration(probeTimeout))
	h.Rise, h.Fall = cmp.Or(max(h.Rise, 0), 2), cmp.Or(max(h.Fall, 0), 3)

	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.probes[u]
	if old != nil && probed && old.health == h {
		return
	}
	if old != nil {
		old.gone = true
		if old.index >= 0 {
			heap.Remove(&p.due, old.index)
		}
		delete(p.probes, u)
		u.SetFailing("")
	}
	if probed {
		pr := &probe{upstream: u, health: h, next: time.Now()}
		p.probes[u] = pr
		heap.Push(&p.due, pr)
		p.nudge()
	}
}

func (p *prober) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run probes until ctx ends.
func (p *prober) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, maxProbes)
	for {
		pr, wait := p.take()
		if pr == nil {
			select {
			case <-time.After(wait):
			case <-p.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		running.Go(func() {
			err := ask(ctx, p.dial, pr.upstream.Addr, pr.upstream.Proto, pr.health)
			<-slots
			if ctx.Err() == nil {
				p.done(pr, err)
			}
		})
	}
}

// take returns the probe that is due, or how long there will be none.
func (p *prober) take() (*probe, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.due) == 0 {
		return nil, time.Hour
	}
	if wait := time.Until(p.due[0].next); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&p.due).(*probe), 0
}

// done counts the result and plans the next probe.
func (p *prober) done(pr *probe, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr.gone {
		return
	}
	u := pr.upstream
	failing := u.Failing() != ""
	if err == nil {
		pr.passes, pr.failures = pr.passes+1, 0
	} else {
		pr.passes, pr.failures = 0, pr.failures+1
	}
	switch {
	case failing && pr.passes >= pr.health.Rise:
		u.SetFailing("")
		p.log.Info("endpoint passes its probe again", "service", u.Service, "endpoint", u.ID, "addr", u.Addr)
	case !failing && pr.failures >= pr.health.Fall:
		u.SetFailing(err.Error())
		p.log.Warn("endpoint fails its probe", "service", u.Service, "endpoint", u.ID, "addr", u.Addr, "err", err)
	}
	interval := time.Duration(pr.health.Interval)
	jitter := time.Duration((rand.Float64() - 0.5) / 5 * float64(interval)) // ±10 %
	pr.next = time.Now().Add(interval + jitter)
	heap.Push(&p.due, pr)
	p.nudge()
}

// Probe asks e once, as it declares to be asked; one that declares nothing is
// connected to.
func Probe(ctx context.Context, e catalog.Endpoint) error {
	var h catalog.Health
	if e.Health != nil {
		h = *e.Health
	}
	h.Timeout = cmp.Or(h.Timeout, catalog.Duration(probeTimeout))
	return ask(ctx, func(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error) {
		d := net.Dialer{Timeout: timeout}
		return d.DialContext(ctx, "tcp", addr)
	}, e.Addr, e.Proto, h)
}

func ask(ctx context.Context, dial dialer, addr, proto string, health catalog.Health) error {
	timeout := time.Duration(health.Timeout)
	if health.HTTP == "" {
		c, err := dial(ctx, addr, timeout)
		if err != nil {
			return err
		}
		return c.Close()
	}
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	scheme := "http"
	if proto == "https" {
		scheme = "https"
	}
	req.SetRequestURI(scheme + "://" + addr + health.HTTP)
	req.SetConnectionClose()
	req.Header.SetUserAgent("muster")
	res.SkipBody = true
	client := fasthttp.HostClient{
		Addr:                      addr,
		IsTLS:                     scheme == "https",
		MaxIdemponentCallAttempts: 1,
		MaxResponseBodySize:       1 << 20,
		DisablePathNormalizing:    true,
		Dial:                      func(string) (net.Conn, error) { return dial(ctx, addr, timeout) },
	}
	if err := client.DoTimeout(req, res, timeout); err != nil {
		return err
	}
	if code := res.StatusCode(); code < 200 || code > 399 {
		return fmt.Errorf("GET %s: status %d: want 200 to 399", health.HTTP, code)
	}
	return nil
}

// A schedule is a heap of probes, the next one first.
type schedule []*probe

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].next.Before(s[j].next) }

func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push is for package heap.
func (s *schedule) Push(x any) {
	pr := x.(*probe)
	pr.index = len(*s)
	*s = append(*s, pr)
}

// Pop is for package heap.
func (s *schedule) Pop() any {
	old := *s
	pr := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	pr.index = -1
	return pr
}
