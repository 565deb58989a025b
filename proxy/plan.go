package proxy

import (
	"net/netip"
	"time"

	"muster/catalog"
	"muster/proxy/portable"
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
	Routes    []Route    // each pair of host and path at most once
	Services  []*Service // by name; those that did not change may be those of the plan before
	AccessLog string     // off, combined or json; empty is off
	Sole      string     // the service that is exposed for being the only one, or ""
}

// A Listener is an address the proxy accepts HTTP on, and how it treats those who
// connect. A zero is the default, here and in what it holds.
type Listener struct {
	Bind    string // HOST:PORT or :PORT
	Timeout ListenerTimeout
	Limits  Limits
	Source  string // "flag -listen", "muster.toml:3", "default"

	// Trusted are the proxies in front: what they tell of their clients is kept.
	Trusted     []netip.Prefix
	Forwarded   ForwardedStyle
	Via         string      // our name in Via, and what a request must not have there yet; none is written
	Dots        bool        // segments of dots in a path pass; they are refused
	Underscores Underscores // in names of fields
	Drop        []string    // names of fields that are not passed on; nil: Proxy, X-Original-URL, X-Original-URI, X-Rewrite-URL
	Trace       bool        // TRACE passes; it is refused
	ProxyStatus ProxyStatus
}

// A ForwardedStyle is how endpoints are told of the client, and trusted proxies
// tell of theirs.
type ForwardedStyle string

// The styles; X is the default.
const (
	ForwardedX    ForwardedStyle = "x"       // X-Forwarded-For, -Proto and -Host
	ForwardedRFC  ForwardedStyle = "rfc7239" // Forwarded
	ForwardedBoth ForwardedStyle = "both"
)

// Underscores is what becomes of fields with "_" in their name.
type Underscores string

// What becomes of them; they are dropped by default.
const (
	DropUnderscores   Underscores = "drop"
	RejectUnderscores Underscores = "reject"
	AllowUnderscores  Underscores = "allow"
)

// A ProxyStatus says which answers get a Proxy-Status field.
type ProxyStatus string

// Which do; by default those that are made here.
const (
	ProxyStatusErrors ProxyStatus = "errors"
	ProxyStatusAlways ProxyStatus = "always"
	ProxyStatusOff    ProxyStatus = "off"
)

// A ListenerTimeout bounds how long a client may take.
type ListenerTimeout struct {
	Header    time.Duration // the whole request head, from its first byte; 10s
	Body      time.Duration // between two reads of a body; 30s
	Idle      time.Duration // between two requests of a connection; 60s
	Write     time.Duration // it takes no byte of its answer; 30s
	Expect    time.Duration // an endpoint says nothing to Expect: 100-continue: the body flows then; 1s
	HalfClose time.Duration // for an answer, when the client has ended its direction; 1s
}

// Limits bound what a client may send.
type Limits struct {
	Head     int // bytes of request line and fields; 32 KiB
	Target   int // bytes of the request's target; 8 KiB
	Fields   int // lines of the head; 128, and no more
	Requests int // of one connection; negative: no limit, which is the default

	MinRate     int // bytes a second, of a body once it has taken 5s; negative: no limit, which is the default
	Connections int // at a time; 80 % of the files that the process may open; negative: no limit
	PerClient   int // connections of an IPv4 address or a /64 of IPv6 that is not trusted; negative: no limit, which is the default
}

// A Route sends the requests it matches to a service. The longest host wins,
// then the longest path.
type Route struct {
	catalog.Route
	Service string
	Source  string   // "announced", "flag -default", "only service", "domain example.com"
	Shadows []string // services that ask for the same and came later
}

// Speaks reports whether a proxy sends requests to endpoints that announce proto:
// nothing, which means http, http or https. Others in a plan fail each request.
func Speaks(proto string) bool { return portable.Speaks(proto) }

// A Service is a name, its endpoints and how to balance them.
type Service struct {
	Name      string
	Endpoints []*catalog.Endpoint
	ServiceSettings
	Health  *catalog.Health   // how to probe the endpoints, whatever they declare; nil: as each declares
	Sources map[string]string // setting, such as "timeout.connect" → where it came from; absent: default
}

// ServiceSettings are what [defaults] or [service.NAME] say. A zero is the default.
type ServiceSettings struct {
	Timeout  ServiceTimeout
	Limits   ServiceLimits
	MaxConns int    // requests that an endpoint may have at a time; negative: any number, which is the default
	Queue    Queue  // of those that are too many
	Host     string // that requests get: KeepHost, EndpointHost or a name; their own
}

// A Queue is where requests wait while every endpoint has as many as it may.
type Queue struct {
	Size    int           // zero or negative: none waits
	Timeout time.Duration // 1s
}

// What Host may say beside a name.
const (
	KeepHost     = "keep"     // the client's
	EndpointHost = "endpoint" // the address of the endpoint
)

// A ServiceTimeout bounds how long an endpoint may take.
type ServiceTimeout struct {
	Connect  time.Duration // 1s
	Response time.Duration // upstream silence, before or within an answer; 30s
	Stream   time.Duration // the same within an event stream; 1h
	Tunnel   time.Duration // silence both ways, once an upgrade was agreed on; 1h
}

// ServiceLimits bound what a service is sent, and what it may send.
type ServiceLimits struct {
	Body         int64 // bytes of a request's body; negative: no limit, which is the default
	ResponseHead int   // bytes of an answer's head; 64 KiB
}
