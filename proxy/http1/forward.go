// This file runs once per request.

package http1

import "strconv"

// A Hop is what the proxy says of itself in a request that it forwards.
type Hop struct {
	Client    string // its address
	Scheme    string // of the connection it came by
	Host      string // of a request that has none: the endpoint's authority
	Instead   string // of Host, whatever the request has; empty: nothing
	RequestID []byte
}

// AppendHead appends the head that goes to an endpoint, as HTTP/1.1: the fields
// that are passed on, then ours.
func (r *Request) AppendHead(dst, buf []byte, hop *Hop) []byte {
	dst = append(dst, r.Method.In(buf)...)
	dst = append(dst, ' ')
	if r.rootless {
		if r.Asterisk {
			dst = append(dst, '*')
		} else {
			dst = append(dst, '/')
		}
	}
	dst = append(dst, r.origin.In(buf)...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	switch {
	case hop.Instead != "":
		dst = append(dst, hop.Instead...)
	case r.Authority.Len() > 0:
		dst = append(dst, r.Authority.In(buf)...)
	default:
		dst = append(dst, hop.Host...)
	}
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, buf, r.Fields())
	switch r.Body {
	case Sized:
		dst = appendLength(dst, r.Length)
	case Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		dst = r.appendTrailer(dst, buf, r.Fields())
	}
	switch {
	case r.Upgrade.Len() > 0:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case r.Trailers:
		dst = append(dst, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	if r.Expect {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	if r.forwards > 0 {
		dst = append(dst, "Max-Forwards: "...)
		dst = strconv.AppendInt(dst, r.forwards-1, 10)
		dst = append(dst, "\r\n"...)
	}
	dst = r.appendForwarding(dst, buf, hop)
	dst = append(dst, "X-Request-Id: "...)
	dst = append(dst, hop.RequestID...)
	return append(dst, "\r\n\r\n"...)
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// AppendAnnounced appends the names that Trailer announces and that may be
// passed on, separated by commas. It is what [Chunks.AppendTrailers] wants.
func (r *Request) AppendAnnounced(dst, buf []byte) []byte {
	return r.appendAnnounced(dst, buf, r.Fields())
}

func (h *head) appendTrailer(dst, buf []byte, fields []Field) []byte {
	before := len(dst)
	dst = append(dst, "Trailer: "...)
	from := len(dst)
	dst = h.appendAnnounced(dst, buf, fields)
	if len(dst) == from {
		return dst[:before]
	}
	return append(dst, "\r\n"...)
}

func (h *head) appendAnnounced(dst, buf []byte, fields []Field) []byte {
	if !h.trailer {
		return dst
	}
	first := true
	for i := range fields {
		if fields[i].ID != Trailer {
			continue
		}
		for name := range members(fields[i].Value.In(buf)) {
			if !mayTrail(name, h.rules) || h.isNominated(buf, name) {
				continue
			}
			if !first {
				dst = append(dst, ", "...)
			}
			first = false
			dst = append(dst, name...)
		}
	}
	return dst
}
