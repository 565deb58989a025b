package proxy

import (
	"time"

	"muster/catalog"
)

// A Plan is what the proxy shall do: listeners, routes and services, with every
// setting resolved and where it came from. It never changes; package config
// makes one of the file, the flags and a snapshot, and [Proxy.Update] swaps it
// in whole.
type Plan struct {
	// Ready is false before the first snapshot: every request then gets 503,
	// and so does /readyz.
	Ready bool

	Listeners []Listener
	Routes    []Route   // each pair of host and path at most once
	Services  []Service // by name
	AccessLog string    // off, combined or json; empty is off
	Sole      string    // the service that is exposed for being the only one, or ""
}

// A Listener is an address the proxy accepts HTTP on.
type Listener struct {
	Bind    string // HOST:PORT or :PORT
	Timeout ListenerTimeout
	Limits  Limits
	Source  string // "flag -listen", "muster.toml:3", "default"
}

// A ListenerTimeout bounds how long a client may take. A zero is the default.
type ListenerTimeout struct {
	Header time.Duration // the whole request head, from its first byte; 10s
	Body   time.Duration // between two reads of a body; 30s
	Idle   time.Duration // between two requests of a connection; 60s
}

// Limits bound what a client may send. A zero is the default.
type Limits struct {
	Head int // bytes of request line and fields; 32 KiB
}

// A Route sends the requests it matches to a service. The longest host wins,
// then the longest path.
type Route struct {
	catalog.Route
	Service string
	Source  string   // "announced", "flag -default", "only service", "domain example.com"
	Shadows []string // services that ask for the same and came later
}

// A Service is a name, its endpoints and how to balance them.
type Service struct {
	Name      string
	Endpoints []*catalog.Endpoint
	Timeout   ServiceTimeout
	Health    *catalog.Health   // how to probe the endpoints, whatever they declare; nil: as each declares
	Sources   map[string]string // setting, such as "timeout.connect" → where it came from; absent: default
}

// A ServiceTimeout bounds how long an endpoint may take. A zero is the default.
type ServiceTimeout struct {
	Connect  time.Duration // 1s
	Response time.Duration // upstream silence, before or within an answer; 30s
}
