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
	"net"
	"os"
	"slices"
	"strconv"
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
	name      string
	listeners []proxy.Listener
	access    string
	services  map[string]fileService // what is said of a service, defaults not yet applied
	timeout   serviceTimeout         // of [defaults]
}

// A sourced value knows the line it stands on.
type sourced[T any] struct {
	value  T
	source string
}

type fileService struct {
	endpoints []*catalog.Endpoint
	health    *catalog.Health
	timeout   serviceTimeout
	source    string
}

type serviceTimeout struct{ connect, response sourced[duration] }

// The tables of muster.toml.
type tables struct {
	Listener []listenerTable
	Defaults struct{ Timeout timeoutTable }
	Log      struct{ Access accessFormat }
	Service  map[string]serviceTable
	Announce tomlfile.Other // sidekick.Load reads it
}

type listenerTable struct {
	Bind    bindAddr
	Timeout struct{ Header, Body, Idle duration }
	Limits  struct{ Head size }
}

type timeoutTable struct{ Connect, Response duration }

func (t timeoutTable) from(source string) serviceTimeout {
	return serviceTimeout{sourced[duration]{t.Connect, source}, sourced[duration]{t.Response, source}}
}

type serviceTable struct {
	Endpoints []endpointAddr
	Timeout   timeoutTable
	Health    *healthTable
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
	f := &File{name: name, access: string(t.Log.Access), services: make(map[string]fileService)}
	at := func(key ...string) string { return fmt.Sprintf("%s:%d", name, decoded.Line(key...)) }
	f.timeout = t.Defaults.Timeout.from(at("defaults", "timeout"))
	for i, l := range t.Listener {
		source := fmt.Sprintf("%s:%d", name, decoded.TableLine("listener", i))
		if l.Bind == "" {
			wrong = append(wrong, fmt.Errorf("%s: [[listener]] without bind: want HOST:PORT or :PORT", source))
			continue
		}
		f.listeners = append(f.listeners, proxy.Listener{
			Bind: string(l.Bind),
			Timeout: proxy.ListenerTimeout{
				Header: time.Duration(l.Timeout.Header), Body: time.Duration(l.Timeout.Body), Idle: time.Duration(l.Timeout.Idle),
			},
			Limits: proxy.Limits{Head: int(l.Limits.Head)},
			Source: source,
		})
	}
	for service, s := range t.Service {
		source := at("service", service)
		fs, err := s.read(service, source)
		fs.timeout = s.Timeout.from(at("service", service, "timeout"))
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: [service.%s]: %w", source, service, err))
		}
		f.services[service] = fs
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return f, nil
}

func (s serviceTable) read(name, source string) (fileService, error) {
	fs := fileService{source: source}
	if name == "" || strings.Contains(name, "/") {
		return fs, fmt.Errorf("name %q: want one path element", name)
	}
	for _, addr := range s.Endpoints {
		fs.endpoints = append(fs.endpoints, &catalog.Endpoint{
			Service: name, ID: string(addr),
			Announcement: catalog.Announcement{Addr: string(addr), Weight: catalog.DefaultWeight, State: catalog.Up},
		})
	}
	slices.SortFunc(fs.endpoints, byID)
	if h := s.Health; h != nil {
		if (h.HTTP == "") == !h.TCP || h.HTTP != "" && h.HTTP[0] != '/' {
			return fs, errors.New(`health: want http = "/PATH" or tcp = true`)
		}
		if h.Rise < 0 || h.Fall < 0 {
			return fs, errors.New("health: rise, fall: want a count")
		}
		fs.health = &catalog.Health{
			HTTP: h.HTTP, TCP: h.TCP, Rise: h.Rise, Fall: h.Fall,
			Interval: catalog.Duration(h.Interval), Timeout: catalog.Duration(h.Timeout),
		}
	}
	return fs, nil
}

func byID(a, b *catalog.Endpoint) int { return strings.Compare(a.ID, b.ID) }

// The kinds of value that muster.toml has. Each says what it wanted.

type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return fmt.Errorf("%q: want a duration above zero, such as \"10s\"", text)
	}
	*d = duration(v)
	return nil
}

type size int

var units = []struct {
	name  string
	bytes int
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

func (s *size) UnmarshalText(text []byte) error {
	number, factor := string(text), 1
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, factor = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 20)
	if err != nil || n == 0 {
		return fmt.Errorf("%q: want a size such as \"32KiB\"", text)
	}
	*s = size(int(n) * factor)
	return nil
}

type bindAddr string

func (b *bindAddr) UnmarshalText(text []byte) error {
	if err := CheckBind(string(text)); err != nil {
		return err
	}
	*b = bindAddr(text)
	return nil
}

// CheckBind reports whether addr is something to listen on: HOST:PORT or :PORT,
// port 0 for any free one.
func CheckBind(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q: want HOST:PORT or :PORT", addr)
	}
	return nil
}

type endpointAddr string

func (e *endpointAddr) UnmarshalText(text []byte) error {
	if err := catalog.CheckAddr(string(text)); err != nil {
		return err
	}
	*e = endpointAddr(text)
	return nil
}

type accessFormat string

func (a *accessFormat) UnmarshalText(text []byte) error {
	if !slices.Contains([]string{"off", "combined", "json"}, string(text)) {
		return fmt.Errorf("%q: want off, combined or json", text)
	}
	*a = accessFormat(text)
	return nil
}
