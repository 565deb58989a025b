// This file runs once per request.

package http1

import "strconv"

// Rules are what operators may want otherwise. The zero Rules, and none, are the
// defaults.
type Rules struct {
	Dots        bool        // segments of dots in a path pass, as they came
	Underscores Underscores // in names of fields
	Drop        []string    // names of fields that are not passed on; nil: Proxy and those that tell of another target

	// Trusted says that the client is a proxy, whose forwarding fields are kept.
	Trusted bool
	Style   Style  // of the forwarding fields that are read and written
	Via     string // our name in Via (RFC 9110, section 7.6.3); empty: none is written
}

// Underscores is what becomes of fields with "_" in their name, which many servers
// take for "-". One that then looks like a field of ours is dropped in any case.
type Underscores uint8

// What becomes of them.
const (
	DropUnderscores Underscores = iota
	RejectUnderscores
	AllowUnderscores
)

// A Style is how a proxy tells of the client.
type Style uint8

// The styles.
const (
	XForwarded Style = iota // X-Forwarded-For and the like
	RFC7239                 // Forwarded
	Both
)

func (s Style) x() bool       { return s != RFC7239 }
func (s Style) rfc7239() bool { return s != XForwarded }

// lists reports whether a field of that name is not passed on. A symbol is as good
// as another, as servers take one for the other.
func (r *Rules) lists(name []byte) bool {
	for _, d := range r.Drop {
		if len(d) != len(name) {
			continue
		}
		same := true
		for i := range name {
			same = same && plain(name[i]) == plain(d[i])
		}
		if same {
			return true
		}
	}
	return false
}

// plain is a byte of a name as servers may compare it.
func plain(c byte) byte {
	if class[c]&inWord == 0 {
		return '-'
	}
	return lower(c)
}

// follow is choose where there are rules.
func (r *Request) follow(buf []byte, counting bool) Fault {
	rules := r.Rules
	r.head.rules = rules
	if rules.Trusted {
		r.trust(buf)
	}
	for i := range r.table[:r.n] {
		f := &r.table[i]
		name := f.Name.In(buf)
		nominated := r.nominating > 0 && r.isNominated(buf, name)
		switch score := f.class&inScore != 0; {
		case score && rules.Underscores == RejectUnderscores:
			return FieldUnderscore
		case score && rules.Underscores == DropUnderscores, f.class != inWord && resembles(name):
			f.drop = true
		case f.ID == Rerouting && rules.Drop != nil:
			f.drop = nominated || rules.lists(name)
		case f.ID.managed():
			f.drop = nominated || f.ID != MaxForwards || counting
		case f.ID == Via && rules.Via != "":
			f.drop = false // nobody may have us forget where a request was
			r.Looped = r.Looped || cameBy(f.Value.In(buf), rules.Via)
		default:
			f.drop = nominated || rules.lists(name)
		}
	}
	if rules.Trusted && rules.Style.x() {
		for _, i := range [...]int16{r.port, r.prefix, r.realIP} {
			if i >= 0 {
				r.table[i].drop = false
			}
		}
	}
	return 0
}

// trust takes what a trusted client says of its own client: each once, and valid.
func (r *Request) trust(buf []byte) {
	r.port, r.prefix, r.realIP = -1, -1, -1
	var count [numNames]uint8
	for i := range r.table[:r.n] {
		id := r.table[i].ID
		count[id] = min(count[id]+1, 2)
	}
	elements := true
	for i := range r.table[:r.n] {
		f := &r.table[i]
		v := f.Value.In(buf)
		if f.ID == Forwarded {
			elements = elements && goodForwarded(v)
			r.elements = elements
		}
		if count[f.ID] != 1 {
			continue
		}
		switch f.ID {
		case ForwardedProto:
			if equal(v, "http") || equal(v, "https") {
				r.outerProto = f.Value
			}
		case ForwardedHost:
			if goodHost(v) {
				r.outerHost = f.Value
			}
		case ForwardedPort:
			if n, ok := number(v); ok && n <= 65535 {
				r.port = int16(i)
			}
		case ForwardedPrefix:
			if goodPrefix(v) {
				r.prefix = int16(i)
			}
		case RealIP:
			if goodIPv4(v) || goodIPv6(v) {
				r.realIP = int16(i)
			}
		case RequestID:
			if len(v) <= maxRequestID && isToken(v) {
				r.RequestID = f.Value
			}
		}
	}
}

// maxRequestID is how long an X-Request-Id may be that is kept.
const maxRequestID = 128

// goodPrefix reports whether p is the begin of a path.
func goodPrefix(p []byte) bool {
	for _, c := range p {
		if c <= ' ' || c >= 0x7f || c == '?' || c == '#' || c == '\\' || c == ',' {
			return false
		}
	}
	return len(p) > 0 && p[0] == '/'
}

// maxForwardedFor is how long X-Forwarded-For may grow. Of a longer one the last
// members are kept: those that were written nearest.
const maxForwardedFor = 4 << 10

// appendForwarding appends the fields that tell of the client.
func (r *Request) appendForwarding(dst, buf []byte, hop *Hop) []byte {
	rules := r.Rules
	if rules == nil {
		rules = &noRules
	}
	host := r.Authority.In(buf)
	if rules.Style.x() {
		dst = append(dst, "X-Forwarded-For: "...)
		if rules.Trusted {
			dst = r.appendFor(dst, buf, maxForwardedFor-len(hop.Client))
		}
		dst = append(dst, hop.Client...)
		dst = append(dst, "\r\nX-Forwarded-Proto: "...)
		if r.outerProto.Len() > 0 {
			dst = append(dst, r.outerProto.In(buf)...)
		} else {
			dst = append(dst, hop.Scheme...)
		}
		outer := host
		if r.outerHost.Len() > 0 {
			outer = r.outerHost.In(buf)
		}
		if len(outer) > 0 {
			dst = append(dst, "\r\nX-Forwarded-Host: "...)
			dst = append(dst, outer...)
		}
		dst = append(dst, "\r\n"...)
	}
	if rules.Style.rfc7239() {
		dst = r.appendElements(dst, buf)
		dst = append(dst, "for="...)
		dst = appendNode(dst, hop.Client)
		if len(host) > 0 {
			dst = append(dst, ";host="...)
			dst = appendWord(dst, host)
		}
		dst = append(dst, ";proto="...)
		dst = append(dst, hop.Scheme...)
		dst = append(dst, ";by=_muster\r\n"...)
	}
	if rules.Via != "" {
		dst = appendVia(dst, r.Minor, rules.Via)
	}
	return dst
}

var noRules Rules

// appendFor appends the members of X-Forwarded-For, each with a comma behind it,
// as far as most bytes hold the last of them.
func (r *Request) appendFor(dst, buf []byte, most int) []byte {
	all := 0
	for i := range r.Fields() {
		if f := &r.table[i]; f.ID == ForwardedFor {
			for m := range members(f.Value.In(buf)) {
				all += len(m) + 2
			}
		}
	}
	for i := range r.Fields() {
		f := &r.table[i]
		if f.ID != ForwardedFor {
			continue
		}
		for m := range members(f.Value.In(buf)) {
			if all <= most {
				dst = append(dst, m...)
				dst = append(dst, ", "...)
			}
			all -= len(m) + 2
		}
	}
	return dst
}

// appendElements appends Forwarded and its elements that came, up to ours.
func (r *Request) appendElements(dst, buf []byte) []byte {
	dst = append(dst, "Forwarded: "...)
	if !r.elements {
		return dst
	}
	for i := range r.Fields() {
		if f := &r.table[i]; f.ID == Forwarded {
			dst = append(dst, f.Value.In(buf)...)
			dst = append(dst, ", "...)
		}
	}
	return dst
}

// appendNode appends an address as a node (RFC 7239, section 6).
func appendNode(dst []byte, addr string) []byte {
	for i := range len(addr) {
		if addr[i] == ':' {
			dst = append(dst, `"[`...)
			dst = append(dst, addr...)
			return append(dst, `]"`...)
		}
	}
	return append(dst, addr...)
}

// appendWord appends a host, in quotes where it is no token.
func appendWord(dst, host []byte) []byte {
	if isToken(host) {
		return append(dst, host...)
	}
	dst = append(dst, '"')
	dst = append(dst, host...)
	return append(dst, '"')
}

// appendVia appends Via for a message of HTTP/1.minor.
func appendVia(dst []byte, minor int, name string) []byte {
	dst = append(dst, "Via: 1."...)
	dst = strconv.AppendInt(dst, int64(minor), 10)
	dst = append(dst, ' ')
	dst = append(dst, name...)
	return append(dst, "\r\n"...)
}
