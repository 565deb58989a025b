package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/catalog"
	"muster/proxy"
	"muster/proxy/http1"
)

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

// A size is a number of bytes.
type size int

func (s *size) UnmarshalText(text []byte) error {
	n, ok := bytesOf(string(text))
	if !ok || n > 1<<30 {
		return fmt.Errorf("%q: want a size of up to 1GiB, such as \"32KiB\"", text)
	}
	*s = size(n)
	return nil
}

// A sizeOrOff is a number of bytes; negative where it is "off".
type sizeOrOff int64

func (s *sizeOrOff) UnmarshalText(text []byte) error {
	n, ok := bytesOf(string(text))
	switch {
	case string(text) == "off":
		n = -1
	case !ok:
		return fmt.Errorf("%q: want a size such as \"8MiB\", or off", text)
	}
	*s = sizeOrOff(n)
	return nil
}

var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

// bytesOf reads a size above zero.
func bytesOf(text string) (n int64, ok bool) {
	number, factor := text, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, factor = strings.TrimSpace(n), u.bytes
			break
		}
	}
	v, err := strconv.ParseUint(number, 10, 63)
	if err != nil || v == 0 || int64(v) > math.MaxInt64/factor {
		return 0, false
	}
	return int64(v) * factor, true
}

// A count is how many there may be; negative where that is "off".
type count int

func (c *count) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*c = -1
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil || n == 0 {
		return fmt.Errorf("%q: want a number above zero, or off", text)
	}
	*c = count(n)
	return nil
}

// A rate is bytes a second; negative where there is none.
type rate int

func (r *rate) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "/s")
	n, valid := bytesOf(number)
	switch {
	case string(text) == "off":
		n = -1
	case !ok || !valid || n > 1<<30:
		return fmt.Errorf("%q: want a rate such as \"240B/s\", or off", text)
	}
	*r = rate(n)
	return nil
}

// A fieldCount is how many lines a head may have.
type fieldCount int

func (c *fieldCount) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil || n == 0 || n > http1.MaxRequestFields {
		return fmt.Errorf("%q: want a number from 1 to %d", text, http1.MaxRequestFields)
	}
	*c = fieldCount(n)
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
	return oneOf((*string)(a), text, "off", "combined", "json")
}

// oneOf takes text that is one of some words.
func oneOf(to *string, text []byte, words ...string) error {
	if *to = string(text); slices.Contains(words, *to) {
		return nil
	}
	last := len(words) - 1
	return fmt.Errorf("%q: want %s or %s", text, strings.Join(words[:last], ", "), words[last])
}

type forwardedStyle string

func (f *forwardedStyle) UnmarshalText(text []byte) error {
	return oneOf((*string)(f), text, string(proxy.ForwardedX), string(proxy.ForwardedRFC), string(proxy.ForwardedBoth))
}

type dotsRule string

func (d *dotsRule) UnmarshalText(text []byte) error {
	return oneOf((*string)(d), text, "reject", "pass")
}

type underscoreRule string

func (u *underscoreRule) UnmarshalText(text []byte) error {
	return oneOf((*string)(u), text, string(proxy.DropUnderscores), string(proxy.RejectUnderscores), string(proxy.AllowUnderscores))
}

type proxyStatus string

func (p *proxyStatus) UnmarshalText(text []byte) error {
	return oneOf((*string)(p), text, string(proxy.ProxyStatusErrors), string(proxy.ProxyStatusAlways), string(proxy.ProxyStatusOff))
}

// A network is some addresses, or one.
type network netip.Prefix

func (n *network) UnmarshalText(text []byte) error {
	prefix, err := netip.ParsePrefix(string(text))
	if err != nil {
		var addr netip.Addr
		if addr, err = netip.ParseAddr(string(text)); err == nil && addr.Zone() == "" {
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
	}
	if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
		return fmt.Errorf("%q: want an address, or a network such as \"10.0.0.0/8\"", text)
	}
	*n = network(prefix)
	return nil
}

// A viaName is what we are called in Via; empty where it is "off".
type viaName string

func (v *viaName) UnmarshalText(text []byte) error {
	name := string(text)
	if name == "off" {
		*v = ""
		return nil
	}
	if !http1.IsToken(name) && !http1.IsHost(name) {
		return fmt.Errorf("%q: want a name of letters, digits and -._~, a host, or off", text)
	}
	*v = viaName(name)
	return nil
}

// A dropped is the name of a field that is not passed on.
type dropped string

func (d *dropped) UnmarshalText(text []byte) error {
	name := string(text)
	if !http1.IsToken(name) {
		return fmt.Errorf("%q: want the name of a field", text)
	}
	if http1.IsOurs(name) {
		return fmt.Errorf("%q: the proxy writes or removes this field itself: take it off the list", text)
	}
	*d = dropped(name)
	return nil
}

// A hostRule is which Host endpoints get: "keep", "endpoint" or a name.
type hostRule string

func (h *hostRule) UnmarshalText(text []byte) error {
	if !http1.IsHost(string(text)) {
		return fmt.Errorf("%q: want keep, endpoint, or a host such as \"app.internal\"", text)
	}
	*h = hostRule(text)
	return nil
}
