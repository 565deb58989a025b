package proxy

import "time"

// A Status is what the proxy is doing, for people and programs that look at it.
// It is a copy; making one costs the requests nothing.
type Status struct {
	Ready     bool            `json:"ready"`
	Listeners []string        `json:"listeners"` // addresses, with the port that was taken
	Routes    []RouteStatus   `json:"routes"`
	Services  []ServiceStatus `json:"services"`
	Refused   map[int]uint64  `json:"refused"` // answers made here without a service, by status
	InFlight  int64           `json:"in_flight"`
}

// A RouteStatus is one route as it is in force.
type RouteStatus struct {
	Match   string   `json:"match"` // HOST/PATH
	Service string   `json:"service"`
	Source  string   `json:"source"`
	Shadows []string `json:"shadows,omitempty"`
}

// A ServiceStatus is one service and its endpoints. Counters only grow.
type ServiceStatus struct {
	Name      string           `json:"name"`
	Exposed   bool             `json:"exposed"` // a route leads to it
	Requests  uint64           `json:"requests"`
	Errors    uint64           `json:"errors"`  // answers made here (502, 503, 504) and 5xx of endpoints
	Retries   uint64           `json:"retries"` //
	InFlight  int64            `json:"in_flight"`
	Latency   Latency          `json:"latency"` // whole requests
	Upstreams []UpstreamStatus `json:"upstreams"`
}

// An UpstreamStatus is the running state of one endpoint. Counters only grow.
type UpstreamStatus struct {
	ID       string  `json:"id"`
	Addr     string  `json:"addr"`
	State    string  `json:"state"` // up, starting, draining, failing, leaving (gone from the store, requests still running)
	Reason   string  `json:"reason,omitempty"`
	Weight   int     `json:"weight"`
	Requests uint64  `json:"requests"`
	Errors   uint64  `json:"errors"` // no answer, or a 5xx
	InFlight int64   `json:"in_flight"`
	Latency  Latency `json:"latency"`
}

// A Latency is a histogram of durations since the process started; two of them,
// taken at different times, give the quantiles of the time between.
type Latency struct {
	Buckets []uint64      `json:"-"` // counts; see [Latency.Quantile]
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
}
