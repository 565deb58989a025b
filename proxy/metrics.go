package proxy

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"muster/proxy/balance"
)

// A desc is what a metric is called, and what its labels are.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("muster_"+name, help, labels, nil)
}

var (
	descReady    = desc("ready", "Whether there has been a snapshot: 0 or 1.")
	descRequests = desc("requests_total", "Requests that have ended, by the class of their status; client_gone: the client left before an answer.", "service", "code")
	descErrors   = desc("errors_total", "Answers from 500 on, made by the proxy or by an endpoint.", "service")
	descRetries  = desc("retries_total", "Attempts after the first of their request.", "service")
	descInFlight = desc("in_flight", "Requests that are running.", "service")
	descQueued   = desc("queued", "Requests that wait for an endpoint, of a service with a queue.", "service")
	descDuration = desc("request_duration_seconds", "Whole requests, without tunnels.", "service")

	descEndpoints = desc("endpoints", "Endpoints of the service, by the state they are in.", "service", "state")

	descUpstreamState    = desc("upstream_state", "1 for the state that the endpoint is in.", "service", "endpoint", "state")
	descUpstreamRequests = desc("upstream_requests_total", "Attempts at the endpoint.", "service", "endpoint")
	descUpstreamErrors   = desc("upstream_errors_total", "Attempts that got no answer, or one from 500 on.", "service", "endpoint")
	descUpstreamInFlight = desc("upstream_in_flight", "Requests that are running on the endpoint.", "service", "endpoint")

	descEnds    = desc("request_ends_total", "Requests that have ended, by how: ok where an endpoint's answer was passed on whole.", "end")
	descRefused = desc("refused_total", "Answers that the proxy made without a service.", "code", "error")
	descPanics  = desc("panics_total", "Requests that ended by a bug of the proxy.")
	descConns   = desc("connections", "Connections of clients.", "listener")
	descTurned  = desc("turned_away_total", "Connections of clients that had as many as limits.per_client.", "listener")
	descAccept  = desc("accept_errors_total", "Times that no connection could be accepted, most likely for want of file descriptors.", "listener")
	descDropped = desc("access_log_dropped_total", "Requests that are missing in the access log.")
)

// Describe is for [prometheus.Collector].
func (p *Proxy) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descReady, descRequests, descErrors, descRetries, descInFlight, descDuration,
		descEndpoints, descUpstreamState, descUpstreamRequests, descUpstreamErrors, descUpstreamInFlight,
		descEnds, descRefused, descPanics, descConns, descTurned, descAccept, descQueued, descDropped,
	} {
		ch <- d
	}
}

// maxIdle is how many endpoints there may be before those that are up and were
// never asked get no series.
const maxIdle = 2000

// Collect is for [prometheus.Collector]. It reads the counters that requests
// keep anyway, so a scrape costs no request anything, and no update either.
func (p *Proxy) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	v := p.view()
	ready := 0.0
	if v.ready {
		ready = 1
	}
	gauge(descReady, ready)
	counter(descPanics, p.engine.Panics())
	counter(descDropped, p.access.dropped.Load())
	refused := make(map[balance.Answer]uint64) // kinds that say the same to a client count as one
	for kind, n := range p.tally.All {
		refused[balance.Answer{Status: kind.Answer().Status, Error: kind.Answer().Error}] += n
	}
	for a, n := range refused {
		counter(descRefused, n, strconv.Itoa(a.Status), a.Error)
	}
	for _, l := range v.listeners {
		gauge(descConns, float64(l.front.Open()), l.addr)
		counter(descTurned, l.front.TurnedAway(), l.addr)
		counter(descAccept, l.fails, l.addr)
	}
	for kind := range balance.Kinds {
		counter(descEnds, p.ends.Count(kind), kind.String())
	}
	for _, s := range v.services {
		name := label(s.plan.Name)
		for class, code := range [...]string{"client_gone", "1xx", "2xx", "3xx", "4xx", "5xx"} {
			counter(descRequests, s.stats.Class(class), name, code)
		}
		counter(descErrors, s.stats.Errors(), name)
		counter(descRetries, s.stats.Retries(), name)
		gauge(descInFlight, float64(s.stats.InFlight()), name)
		if s.plan.Queue.Size > 0 {
			gauge(descQueued, float64(s.stats.Queued()), name)
		}
		ch <- duration(&s.stats.Latency, name)
		states := make(map[string]int)
		seen := make(map[string]bool, len(s.upstreams))
		for _, u := range s.upstreams {
			id := label(u.ID)
			if seen[id] { // one ID, two addresses: two series must not be called the same
				id += "@" + label(u.Addr)
			}
			seen[id] = true
			state, _ := u.condition()
			states[state]++
			if v.all > maxIdle && state == "up" && u.Requests() == 0 {
				continue
			}
			gauge(descUpstreamState, 1, name, id, state)
			counter(descUpstreamRequests, u.Requests(), name, id)
			counter(descUpstreamErrors, u.Errors(), name, id)
			gauge(descUpstreamInFlight, float64(u.InFlight()), name, id)
		}
		for state, n := range states {
			gauge(descEndpoints, float64(n), name, state)
		}
	}
}

// label is text from the store as a label, which has to be UTF-8.
func label(text string) string { return strings.ToValidUTF8(text, "\ufffd") }

// The bounds of the exported histogram are bounds of ours, so no count is
// guessed: each is twice the one before.
const (
	shortestBound = 128 * time.Microsecond
	longestBound  = 128 * time.Second
)

func duration(h *balance.Histogram, service string) prometheus.Metric {
	counts := h.Buckets()
	buckets := make(map[float64]uint64)
	var total uint64
	bound := shortestBound
	for i, n := range counts {
		if balance.BucketFrom(i) >= bound && bound <= longestBound {
			buckets[bound.Seconds()] = total
			bound *= 2
		}
		total += n
	}
	return prometheus.MustNewConstHistogram(descDuration, total, h.Sum().Seconds(), buckets, service)
}

var _ prometheus.Collector = (*Proxy)(nil)
