// Package config turns what an operator wrote and what the fleet announced into
// one plan for the proxy. [Load] reads muster.toml; [Plan] is pure: file, flags
// and a snapshot in, a [proxy.Plan] with the source of every setting out, and
// the problems it found on the way. One bad thing hurts only itself.
//
// Precedence: built-in < announced metadata < file < flags.
package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"muster/catalog"
	"muster/internal/tomlfile"
	"muster/proxy"
)

// DefaultPath is the file that is read when none is named, if it is there.
const DefaultPath = "/etc/muster/muster.toml"

// A File is muster.toml, read and checked. The zero File is an empty one.
type File struct {
	listeners []proxy.Listener
	access    string
	services  map[string]fileService
	defaults  proxy.Service // a service of which the file says nothing
}

// A fileService is what the file says of a service, and [defaults] of the rest.
type fileService struct {
	endpoints []*catalog.Endpoint
	plan      proxy.Service
}

// The tables of muster.toml.
type tables struct {
	Listener []listenerTable
	Defaults settingsTable
	Log      struct{ Access accessFormat }
	Service  map[string]serviceTable
	Announce tomlfile.Other // sidekick.Load reads it
}

type listenerTable struct {
	Bind    bindAddr
	Timeout struct {
		Header, Body, Idle, Write, Expect duration
		HalfClose                         duration `toml:"half_close"`
	}
	Limits struct {
		Head, Target size
		Fields       fieldCount
		Requests     count
		MinRate      rate `toml:"min_rate"`
		Connections  count
		PerClient    count `toml:"per_client"`
	}
	Trusted   []network
	Forwarded forwardedStyle
	Via       viaName
	Path      struct{ Dots dotsRule }
	Headers   struct {
		Underscores underscoreRule
		Drop        []dropped
	}
	Methods     struct{ Trace bool }
	ProxyStatus proxyStatus `toml:"proxy_status"`
}

func (t *listenerTable) plan(source string) proxy.Listener {
	l := proxy.Listener{
		Bind: string(t.Bind),
		Timeout: proxy.ListenerTimeout{
			Header: time.Duration(t.Timeout.Header), Body: time.Duration(t.Timeout.Body), Idle: time.Duration(t.Timeout.Idle),
			Write: time.Duration(t.Timeout.Write), Expect: time.Duration(t.Timeout.Expect), HalfClose: time.Duration(t.Timeout.HalfClose),
		},
		Limits: proxy.Limits{
			Head: int(t.Limits.Head), Target: int(t.Limits.Target), Fields: int(t.Limits.Fields), Requests: int(t.Limits.Requests),
			MinRate: int(t.Limits.MinRate), Connections: int(t.Limits.Connections), PerClient: int(t.Limits.PerClient),
		},
		Source:    source,
		Forwarded: proxy.ForwardedStyle(t.Forwarded), Via: string(t.Via), Dots: t.Path.Dots == "pass",
		Underscores: proxy.Underscores(t.Headers.Underscores), Trace: t.Methods.Trace, ProxyStatus: proxy.ProxyStatus(t.ProxyStatus),
	}
	for _, n := range t.Trusted {
		l.Trusted = append(l.Trusted, netip.Prefix(n))
	}
	if t.Headers.Drop != nil {
		l.Drop = []string{} // an empty list is one too
	}
	for _, name := range t.Headers.Drop {
		l.Drop = append(l.Drop, string(name))
	}
	return l
}

// A settingsTable is what both [defaults] and [service.NAME] may say.
type settingsTable struct {
	Timeout struct{ Connect, Response, Stream, Tunnel duration }
	Limits  struct {
		Body         sizeOrOff
		ResponseHead size `toml:"response_head"`
	}
	Host     hostRule
	MaxConns count `toml:"max_conns"`
	Queue    struct {
		Size    count
		Timeout duration
	}
}

type serviceTable struct {
	settingsTable
	Endpoints []endpointAddr
	Health    *healthTable
}

// over puts what t says over s; line says where a key stands.
func (t *settingsTable) over(s proxy.Service, line func(key ...string) string) proxy.Service {
	s.Sources = maps.Clone(s.Sources)
	set(&s, line, &s.Timeout.Connect, time.Duration(t.Timeout.Connect), "timeout", "connect")
	set(&s, line, &s.Timeout.Response, time.Duration(t.Timeout.Response), "timeout", "response")
	set(&s, line, &s.Timeout.Stream, time.Duration(t.Timeout.Stream), "timeout", "stream")
	set(&s, line, &s.Timeout.Tunnel, time.Duration(t.Timeout.Tunnel), "timeout", "tunnel")
	set(&s, line, &s.Limits.Body, int64(t.Limits.Body), "limits", "body")
	set(&s, line, &s.Limits.ResponseHead, int(t.Limits.ResponseHead), "limits", "response_head")
	set(&s, line, &s.Host, string(t.Host), "host")
	set(&s, line, &s.MaxConns, int(t.MaxConns), "max_conns")
	set(&s, line, &s.Queue.Size, int(t.Queue.Size), "queue", "size")
	set(&s, line, &s.Queue.Timeout, time.Duration(t.Queue.Timeout), "queue", "timeout")
	return s
}

// set sets one setting of s, unless v is zero: then nothing is said of it.
func set[T comparable](s *proxy.Service, line func(key ...string) string, to *T, v T, key ...string) {
	var nothing T
	if v != nothing {
		*to = v
		from(s, strings.Join(key, "."), line(key...))
	}
}

func from(s *proxy.Service, setting, source string) {
	if s.Sources == nil {
		s.Sources = make(map[string]string)
	}
	s.Sources[setting] = source
}

type healthTable struct {
	HTTP              string
	TCP               bool
	Interval, Timeout duration
	Rise, Fall        int
}

// Load reads the file at path. Its error has a line for everything that is
// wrong: "muster.toml:3: unknown key …".
func Load(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Parse is Load of text; name stands in the errors.
func Parse(name string, text []byte) (*File, error) {
	var t tables
	decoded, err := tomlfile.Decode(name, string(text), &t)
	if err != nil {
		return nil, err
	}
	wrong := decoded.Unknown()
	f := &File{access: string(t.Log.Access), services: make(map[string]fileService)}
	below := func(table ...string) func(key ...string) string {
		return func(key ...string) string {
			return fmt.Sprintf("%s:%d", name, decoded.Line(slices.Concat(table, key)...))
		}
	}
	f.defaults = t.Defaults.over(proxy.Service{}, below("defaults"))
	for i := range t.Listener {
		source := fmt.Sprintf("%s:%d", name, decoded.TableLine("listener", i))
		if t.Listener[i].Bind == "" {
			wrong = append(wrong, fmt.Errorf("%s: [[listener]] without bind: want HOST:PORT or :PORT", source))
			continue
		}
		f.listeners = append(f.listeners, t.Listener[i].plan(source))
	}
	for service, s := range t.Service {
		line := below("service", service)
		fs, err := s.read(service, f.defaults, line)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: [service.%s]: %w", line(), service, err))
		}
		f.services[service] = fs
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return f, nil
}

// read makes what the table says of a service, with defaults for the rest.
func (t *serviceTable) read(name string, defaults proxy.Service, line func(key ...string) string) (fs fileService, err error) {
	if name == "" || strings.Contains(name, "/") {
		return fs, fmt.Errorf("name %q: want one path element", name)
	}
	fs.plan = t.over(defaults, line)
	for _, addr := range t.Endpoints {
		fs.endpoints = append(fs.endpoints, &catalog.Endpoint{
			Service: name, ID: string(addr),
			Announcement: catalog.Announcement{Addr: string(addr), Weight: catalog.DefaultWeight, State: catalog.Up},
		})
	}
	slices.SortFunc(fs.endpoints, byID)
	if len(fs.endpoints) > 0 {
		from(&fs.plan, "endpoints", line("endpoints"))
	}
	if t.Queue.Size > 0 && fs.plan.MaxConns <= 0 {
		return fs, errors.New("queue without max_conns: nothing would wait in it")
	}
	if h := t.Health; h != nil {
		if (h.HTTP == "") == !h.TCP || h.HTTP != "" && h.HTTP[0] != '/' {
			return fs, errors.New(`health: want http = "/PATH" or tcp = true`)
		}
		if h.Rise < 0 || h.Fall < 0 {
			return fs, errors.New("health: rise, fall: want a count")
		}
		fs.plan.Health = &catalog.Health{
			HTTP: h.HTTP, TCP: h.TCP, Rise: h.Rise, Fall: h.Fall,
			Interval: catalog.Duration(h.Interval), Timeout: catalog.Duration(h.Timeout),
		}
		from(&fs.plan, "health", line("health"))
	}
	return fs, nil
}

func byID(a, b *catalog.Endpoint) int { return strings.Compare(a.ID, b.ID) }
