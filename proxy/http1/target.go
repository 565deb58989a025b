// This file runs once per request.

package http1

import "bytes"

// target reads the target at sp (RFC 9112, section 3.2) and sets what the
// request says of it.
func (r *Request) target(buf []byte, sp Span) Fault {
	t := sp.In(buf)
	r.Target = sp
	switch {
	case len(t) == 0:
		return RequestLine
	case t[0] == '/':
		r.origin = sp
		return r.path(buf)
	case len(t) == 1 && t[0] == '*':
		if string(r.Method.In(buf)) != "OPTIONS" {
			return TargetForm
		}
		r.origin, r.Path, r.Asterisk = sp, sp, true
		return 0
	}
	for _, scheme := range [...]string{"http", "https"} {
		if n := len(scheme); len(t) > n+3 && equal(t[:n], scheme) && string(t[n:n+3]) == "://" {
			return r.absolute(buf, Span{sp.Start + uint32(n) + 3, sp.End}, scheme == "https")
		}
	}
	for _, c := range t {
		if c <= ' ' || c >= 0x7f {
			return TargetByte
		}
	}
	return TargetForm
}

// absolute reads what follows the scheme of a target in absolute-form.
func (r *Request) absolute(buf []byte, rest Span, tls bool) Fault {
	t := rest.In(buf)
	end := bytes.IndexAny(t, "/?")
	if end < 0 {
		end = len(t)
	}
	r.authority = Span{rest.Start, rest.Start + uint32(end)}
	r.https = tls
	if !goodHost(r.authority.In(buf)) {
		for _, c := range t[:end] {
			if c <= ' ' || c >= 0x7f || c == '#' {
				return TargetByte
			}
		}
		return TargetForm
	}
	r.origin = Span{r.authority.End, rest.End}
	if r.origin.Len() == 0 && string(r.Method.In(buf)) == "OPTIONS" {
		r.Asterisk = true
		r.rootless = true
		r.Path = r.origin
		return 0
	}
	if r.origin.Len() == 0 || buf[r.origin.Start] == '?' {
		r.rootless = true
	}
	return r.path(buf)
}

// path checks the target in origin-form, whose path may be empty. Nothing in it
// is decoded; what is refused is what two readers might take differently.
func (r *Request) path(buf []byte) Fault {
	t := r.origin.In(buf)
	end := len(t)
	dots := false // worth a second look
	for i, c := range t {
		switch {
		case c <= ' ' || c >= 0x7f || c == '#':
			return TargetByte
		case i >= end: // in the query
		case c == '?':
			end = i
		case c == '\\':
			return TargetByte
		case c == '.' || c == '%':
			dots = true
		}
	}
	r.Path = Span{r.origin.Start, r.origin.Start + uint32(end)}
	if !dots {
		return 0
	}
	path := t[:end]
	for i, c := range path {
		if c != '%' {
			continue
		}
		if i+2 >= len(path) || class[path[i+1]]&inHex == 0 || class[path[i+2]]&inHex == 0 || path[i+1] == '0' && path[i+2] == '0' {
			return TargetEscape
		}
	}
	for len(path) > 0 {
		n := bytes.IndexByte(path, '/')
		segment := path
		if n >= 0 {
			segment, path = path[:n], path[n+1:]
		} else {
			path = nil
		}
		if !dotSegment(segment) {
			continue
		}
		if r.Rules == nil || !r.Rules.Dots {
			return TargetDots
		}
		r.Dotted = true
	}
	return 0
}

// AppendResolved appends a path without its segments of dots (RFC 3986, section
// 5.2.4): what routes go by where such a path passes.
func AppendResolved(dst, path []byte) []byte {
	root := len(dst)
	for len(path) > 0 {
		path = path[1:] // the slash
		n := bytes.IndexByte(path, '/')
		last := n < 0
		if last {
			n = len(path)
		}
		segment := path[:n]
		path = path[n:]
		if !dotSegment(segment) {
			dst = append(dst, '/')
			dst = append(dst, segment...)
			continue
		}
		if dotCount(segment) == 2 {
			dst = dst[:max(root, root+bytes.LastIndexByte(dst[root:], '/'))]
		}
		if last {
			dst = append(dst, '/')
		}
	}
	return dst
}

// dotSegment reports whether a segment is one or two dots, escaped or not, with
// or without parameters. Browsers and curl have removed those before they ask,
// and an endpoint that follows "/public/../admin" would answer what no route
// exposes.
func dotSegment(segment []byte) bool {
	n := dotCount(segment)
	return n == 1 || n == 2
}

// dotCount is of how many dots a segment is made; 0: not of dots.
func dotCount(segment []byte) int {
	n := 0
	for len(segment) > 0 && segment[0] != ';' {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case len(segment) >= 3 && segment[0] == '%' && segment[1] == '2' && segment[2]|0x20 == 'e':
			segment = segment[3:]
		default:
			return 0
		}
		n++
	}
	return n
}

// maxHost is how long a Host may be.
const maxHost = 255

// goodHost reports whether p is a host and perhaps a port (RFC 9112, section
// 3.2): stricter than a URI in that it has no escapes and no sub-delimiters.
func goodHost(p []byte) bool {
	if len(p) == 0 || len(p) > maxHost {
		return false
	}
	var host, port []byte
	colon := false
	if p[0] == '[' {
		end := bytes.IndexByte(p, ']')
		if end < 0 || !goodIPv6(p[1:end]) {
			return false
		}
		host = p[:end+1]
		if rest := p[end+1:]; len(rest) > 0 {
			if rest[0] != ':' {
				return false
			}
			port, colon = rest[1:], true
		}
	} else {
		host = p
		if i := bytes.IndexByte(p, ':'); i >= 0 {
			host, port, colon = p[:i], p[i+1:], true
		}
		for _, c := range host {
			if class[c]&inHost == 0 {
				return false
			}
		}
	}
	if len(host) == 0 {
		return false
	}
	if colon && len(port) > 0 {
		n, ok := number(port)
		return ok && n <= 65535
	}
	return true
}

// goodIPv6 reports whether p is an IPv6 address, without a zone (RFC 3986,
// section 3.2.2).
func goodIPv6(p []byte) bool {
	groups, short := 0, false
	if len(p) >= 2 && p[0] == ':' && p[1] == ':' {
		short = true
		p = p[2:]
	}
	for len(p) > 0 {
		n := 0
		for n < len(p) && class[p[n]]&inHex != 0 {
			n++
		}
		if n < len(p) && p[n] == '.' {
			if !goodIPv4(p) {
				return false
			}
			groups += 2
			p = nil
			break
		}
		if n == 0 || n > 4 {
			return false
		}
		groups++
		if p = p[n:]; len(p) == 0 {
			break
		}
		if p[0] != ':' || len(p) == 1 {
			return false
		}
		if p = p[1:]; p[0] == ':' {
			if short {
				return false
			}
			short = true
			p = p[1:]
		}
	}
	return groups == 8 && !short || groups < 8 && short
}

func goodIPv4(p []byte) bool {
	for i := range 4 {
		n := 0
		for n < len(p) && class[p[n]]&inDigit != 0 {
			n++
		}
		v, ok := number(p[:n])
		if !ok || n > 3 || v > 255 || n > 1 && p[0] == '0' {
			return false
		}
		p = p[n:]
		if i < 3 {
			if len(p) == 0 || p[0] != '.' {
				return false
			}
			p = p[1:]
		}
	}
	return len(p) == 0
}

// sameHost compares the authority of a target with Host: without case, and the
// default port of the scheme may be named or not.
func sameHost(authority, host []byte, tls bool) bool {
	port := ":80"
	if tls {
		port = ":443"
	}
	return equalFold(withoutPort(authority, port), withoutPort(host, port))
}

func withoutPort(host []byte, port string) []byte {
	if bytes.HasSuffix(host, []byte(port)) {
		return host[:len(host)-len(port)]
	}
	return bytes.TrimSuffix(host, []byte(":"))
}
