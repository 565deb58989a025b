package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A State is what a sidekick says of its endpoint, in the metadata.
type State string

// The states of an announcement. Only Up gets new requests; requests that are
// running finish in any of them.
const (
	Starting State = "starting"
	Up       State = "up"
	Draining State = "draining"
)

// DefaultWeight is the weight of an announcement that names none.
const DefaultWeight = 100

// An Announcement is what is said about one endpoint: the value under
// /services/NAME/ID and the JSON metadata beside it under /services.meta/NAME/ID.
// Fields of the metadata that are not known here are ignored.
type Announcement struct {
	V       int               `json:"v"`                 // the format, 1
	Addr    string            `json:"addr"`              // host:port
	Proto   string            `json:"proto,omitempty"`   // http where empty; https, h2c, grpc, tcp, tls
	Weight  int               `json:"weight"`            // share of the requests beside the others; 0 to 65535
	Zone    string            `json:"zone,omitempty"`    //
	Version string            `json:"version,omitempty"` //
	Tags    []string          `json:"tags,omitempty"`    //
	Labels  map[string]string `json:"labels,omitempty"`  //
	Routes  []string          `json:"routes,omitempty"`  // see [ParseRoute]
	Health  *Health           `json:"health,omitempty"`  // how to probe the endpoint from outside; nil: not at all
	State   State             `json:"state,omitempty"`   // up where empty
	Started *time.Time        `json:"started,omitempty"` // when the sidekick announced it first
	Host    string            `json:"host,omitempty"`    // the name of its machine
}

// A Health says how an endpoint can be probed from outside.
type Health struct {
	HTTP     string   `json:"http,omitempty"` // the path to GET; 200 to 399 passes
	TCP      bool     `json:"tcp,omitempty"`  // connecting passes
	Interval Duration `json:"interval,omitzero"`
	Timeout  Duration `json:"timeout,omitzero"`
	Rise     int      `json:"rise,omitempty"` // passes in a row until it is up again
	Fall     int      `json:"fall,omitempty"` // failures in a row until it is failing
}

// A Duration is written as text in JSON: "2s".
type Duration time.Duration

// MarshalText writes the duration as time.Duration prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads; a negative one is an error.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = fmt.Errorf("duration %q: want no negative one", text)
	}
	*d = Duration(v)
	return err
}

// ParseValue reads the value of /services/NAME/ID: host:port, [v6]:port, a URL
// whose scheme is the protocol, or JSON, as muster and other announcers write
// it.
func ParseValue(text string) (Announcement, error) {
	text = strings.TrimSpace(text)
	a := Announcement{Weight: DefaultWeight}
	switch {
	case strings.HasPrefix(text, "{"):
		return parseJSONValue(text)
	case strings.Contains(text, "://"):
		if err := a.setURL(text); err != nil {
			return Announcement{}, err
		}
	default:
		a.Addr = text
	}
	if a.Addr == "" {
		return Announcement{}, errors.New("empty value: want host:port")
	}
	return a, a.check(new(Announcement))
}

// foreign is the JSON that other announcers write as the value: registrator's
// forks, SkyDNS, serversets, vulcand, etcd's own naming. Names are matched
// without regard to case, so IP and ip are one.
type foreign struct {
	Host, IP, Address, Addr, Hostname string
	Port, PublicPort                  json.RawMessage
	URL                               string
	ServiceEndpoint                   *struct {
		Host string
		Port int
	}
	Status        string
	Labels, Attrs map[string]string
	Weight        *int
	Tags          []string
}

func parseJSONValue(text string) (Announcement, error) {
	a := Announcement{Weight: DefaultWeight}
	if json.Unmarshal([]byte(text), &a) == nil && CheckAddr(a.Addr) == nil {
		return a, a.check(new(Announcement)) // as muster itself writes it
	}
	var f foreign
	if e := json.Unmarshal([]byte(text), &f); e != nil {
		return Announcement{}, jsonError(e)
	}
	a = Announcement{Weight: DefaultWeight, Tags: f.Tags, Labels: f.Labels}
	if a.Labels == nil {
		a.Labels = f.Attrs
	}
	if f.Weight != nil {
		a.Weight = *f.Weight
	}
	if f.Status != "" && !strings.EqualFold(f.Status, "alive") {
		a.State = Draining
	}
	host := first(f.Host, f.IP, f.Address, f.Addr, f.Hostname)
	port := strings.Trim(first(string(f.Port), string(f.PublicPort)), `"`)
	switch {
	case f.ServiceEndpoint != nil:
		a.Addr = net.JoinHostPort(f.ServiceEndpoint.Host, strconv.Itoa(f.ServiceEndpoint.Port))
	case f.URL != "":
		if err := a.setURL(f.URL); err != nil {
			return Announcement{}, err
		}
	case port != "":
		a.Addr = net.JoinHostPort(strings.Trim(host, "[]"), port)
	case host != "":
		a.Addr = host // Address and Addr of some announcers hold the port
	default:
		return Announcement{}, errors.New(`no address in the JSON: want "addr", "host" and "port", or "url"`)
	}
	return a, a.check(new(Announcement))
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" && t != "null" {
			return t
		}
	}
	return ""
}

var defaultPorts = map[string]string{"http": "80", "h2c": "80", "https": "443", "grpc": "80", "tls": "443"}

// setURL takes protocol and address from a URL.
func (a *Announcement) setURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("%q: %w", text, errors.Unwrap(err))
	}
	switch u.Scheme {
	case "http", "https", "h2c", "grpc", "tcp", "tls":
	default:
		return fmt.Errorf("%q: unknown scheme: want http, https, h2c, grpc, tcp or tls", text)
	}
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q: want only a scheme, a host and a port", text)
	}
	a.Proto, a.Addr = u.Scheme, u.Host
	if u.Port() == "" && defaultPorts[u.Scheme] != "" {
		a.Addr = net.JoinHostPort(u.Hostname(), defaultPorts[u.Scheme])
	}
	if a.Proto == "http" {
		a.Proto = ""
	}
	return nil
}

// check reports what can't be right, and fills the state. What a shares with like
// was checked there.
func (a *Announcement) check(like *Announcement) error {
	if a.Addr != "" {
		if err := CheckAddr(a.Addr); err != nil {
			return err
		}
	}
	if a.Weight < 0 || a.Weight > 65535 {
		return fmt.Errorf("weight %d: want 0 to 65535", a.Weight)
	}
	switch a.State { // the constant, and not another copy of its text
	case "", Up:
		a.State = Up
	case Starting:
		a.State = Starting
	case Draining:
		a.State = Draining
	default:
		return fmt.Errorf("state %q: want starting, up or draining", a.State)
	}
	if len(a.Routes) > 0 && len(like.Routes) > 0 && &a.Routes[0] == &like.Routes[0] {
		return nil
	}
	for _, r := range a.Routes {
		if _, err := ParseRoute(r); err != nil {
			return err
		}
	}
	return nil
}

// CheckAddr reports whether addr is host:port or [v6]:port with a port from 1
// to 65535 and a host that is a name or an address.
func CheckAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: want host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '+' {
		return fmt.Errorf("address %q: port %q: want 1 to 65535", addr, port)
	}
	if host == "" || strings.ContainsFunc(host, notInHost) || strings.Contains(host, ":") && net.ParseIP(cutZone(host)) == nil {
		return fmt.Errorf("address %q: host %q: want a name or an address", addr, host)
	}
	return nil
}

func notInHost(r rune) bool {
	switch r {
	case '-', '.', '_', ':', '%':
		return false
	}
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
}

func cutZone(host string) string {
	host, _, _ = strings.Cut(host, "%")
	return host
}

// jsonError says where in the value JSON broke off.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("broken JSON at byte %d: %w", syntax.Offset, err)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%q: got a %s: want a %s", kind.Field, kind.Value, kind.Type)
	}
	return err
}
