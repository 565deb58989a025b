// This file runs once per request.

package http1

import (
	"bytes"
	"strconv"
)

// A Response is the head of an answer, final or interim. Spans are offsets into
// the buffer it was parsed from. Reset it before the next head.
type Response struct {
	Status int
	Reason Span
	Minor  int // of the version

	Body   Body
	Length int64 // of a Sized body, and of the one that an answer to HEAD or a 304 only tells of; -1: none is told

	Close   bool // the endpoint keeps the connection for no more requests
	Upgrade Span // the protocol that a 101 switches to; empty: none, or several
	Events  bool // text/event-stream

	head
	started bool
	date    bool
	table   [MaxResponseFields]Field
}

// Fields are the lines of the head, in order.
func (r *Response) Fields() []Field { return r.table[:r.n] }

// Reset makes r ready for another head.
func (r *Response) Reset() {
	r.Status, r.Reason, r.Minor = 0, Span{}, 0
	r.Body, r.Length = None, -1
	r.Close, r.Upgrade, r.Events = false, Span{}, false
	r.started, r.date = false, false
	r.head.reset()
}

// Interim reports a 1xx: another answer follows.
func (r *Response) Interim() bool { return r.Status < 200 }

// Parse reads a head from buf, which holds what has come of it so far, from its
// first byte on. It returns the length of the head once it is complete, and 0
// while it is not. HEAD says that the request's method was HEAD.
func (r *Response) Parse(buf []byte, limits Limits, head bool) (n int, f Fault) {
	if !r.started {
		if f := begins(buf); f != 0 {
			return 0, f
		}
		line, ok, f := r.line(buf, limits.Head, HeadTooLarge)
		if !ok {
			return 0, f
		}
		r.started = true
		if f := r.statusLine(buf, line); f != 0 {
			return 0, f
		}
	}
	done, f := r.fields(buf, r.table[:limits.Fields], limits.Head)
	if !done {
		return 0, f
	}
	if f := r.finish(buf, head); f != 0 {
		return 0, f
	}
	return r.pos, 0
}

// begins refuses at once what is no HTTP.
func begins(buf []byte) Fault {
	const begin = "HTTP/1."
	n := min(len(buf), len(begin))
	if string(buf[:n]) != begin[:n] {
		return StatusLine
	}
	return 0
}

// statusLine reads VERSION SP STATUS [ SP REASON ] (RFC 9112, section 4).
func (r *Response) statusLine(buf []byte, at Span) Fault {
	line := at.In(buf)
	const bare = len("HTTP/1.1 200")
	if len(line) < bare || line[7] != '0' && line[7] != '1' || line[8] != ' ' {
		return StatusLine
	}
	status, ok := number(line[9:bare])
	if !ok || status < 100 || len(line) > bare && line[bare] != ' ' {
		return StatusLine
	}
	if !goodValue(line[bare:]) {
		return LineEnd
	}
	r.Minor = int(line[7] - '0')
	r.Status = int(status)
	r.Reason = Span{min(at.Start+uint32(bare)+1, at.End), at.End}
	return 0
}

// finish draws the conclusions from the fields, once they are all there.
func (r *Response) finish(buf []byte, head bool) Fault {
	var (
		coding    Span
		codings   int
		lengths   bool
		protocols int
	)
	r.Length = -1
	for i := range r.table[:r.n] {
		f := &r.table[i]
		switch f.ID {
		case Other:
		case ContentLength:
			// Equal lengths say one thing (RFC 9112, section 6.3, item 5).
			for rest := f.Value.In(buf); ; {
				m, more, list := bytes.Cut(rest, comma)
				n, ok := number(trim(m))
				if !ok || lengths && n != r.Length {
					return Length
				}
				r.Length, lengths = n, true
				if !list {
					break
				}
				rest = more
			}
		case TransferEncoding:
			coding = f.Value
			codings++
		case Connection:
			if fault := r.nominate(buf, f.Value); fault != 0 {
				return fault
			}
		case Upgrade:
			r.Upgrade = f.Value
			protocols++
		case ContentType:
			kind, _, _ := bytes.Cut(f.Value.In(buf), semicolon)
			r.Events = equalFold(trim(kind), eventStream)
		case Date:
			r.date = true
		case Trailer:
			r.trailer = true
		}
	}
	if protocols != 1 || r.Status != 101 || r.says&saysUpgrade == 0 {
		r.Upgrade = Span{}
	}
	r.Close = r.closes(r.Minor)
	if f := r.framing(buf, lengths, codings, coding, head); f != 0 {
		return f
	}
	r.choose(buf)
	return 0
}

var (
	comma       = []byte(",")
	semicolon   = []byte(";")
	eventStream = []byte("text/event-stream")
)

// framing decides where the body ends (RFC 9112, section 6.3).
func (r *Response) framing(buf []byte, lengths bool, codings int, coding Span, head bool) Fault {
	switch {
	case codings > 0 && r.Minor == 0:
		return CodingVersion
	case codings > 0 && lengths:
		return LengthAndCoded
	case codings > 1 || codings == 1 && !equal(coding.In(buf), "chunked"):
		return Coding
	case r.Interim() || r.Status == 204:
		r.Length = -1
		r.Body = None
	case head || r.Status == 304:
		r.Body = None
	case codings == 1:
		r.Body = Chunked
	case lengths:
		r.Body = Sized
	default:
		r.Body = UntilClose
	}
	return 0
}

// choose decides which fields are passed on as they are.
func (r *Response) choose(buf []byte) {
	for i := range r.table[:r.n] {
		f := &r.table[i]
		switch f.ID {
		case ContentLength, TransferEncoding, Trailer, RequestID:
			f.drop = true
		default:
			f.drop = f.ID.hopByHop() || r.nominating > 0 && r.isNominated(buf, f.Name.In(buf))
		}
	}
}

// A Reply is how an answer goes on to a client.
type Reply struct {
	Minor     int    // of the client's version
	Close     bool   // the connection ends with the answer
	KeepAlive bool   // the client is of HTTP/1.0 and wants to be told that it does not
	Trailers  bool   // the client takes trailers
	Via       string // our name in Via; empty: none is written
	Tells     bool   // of the endpoint's status, in Proxy-Status (RFC 9209)
	RequestID []byte
	Date      []byte // for an answer that has none
}

// Framing is how the body goes on: as it came, but that a client of HTTP/1.1
// gets what ends with the endpoint's connection in chunks, so that it sees a
// truncation and can keep its own, and one of HTTP/1.0 never gets chunks.
func (r *Response) Framing(minor int) Body {
	switch {
	case r.Body == UntilClose && minor == 1:
		return Chunked
	case r.Body == Chunked && minor == 0:
		return UntilClose
	}
	return r.Body
}

// AppendHead appends the head that goes to a client, as HTTP/1.1: of an interim
// answer too, and of a 101.
func (r *Response) AppendHead(dst, buf []byte, reply *Reply) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, r.Reason.In(buf)...)
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, buf, r.Fields())
	if r.Status == 101 {
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, r.Upgrade.In(buf)...)
		dst = append(dst, "\r\n"...)
	}
	if r.Interim() && r.Status != 101 {
		return append(dst, "\r\n"...)
	}
	if !r.date && len(reply.Date) > 0 && r.Status != 101 {
		dst = append(dst, "Date: "...)
		dst = append(dst, reply.Date...)
		dst = append(dst, "\r\n"...)
	}
	if r.Length >= 0 {
		dst = appendLength(dst, r.Length)
	} else if r.Framing(reply.Minor) == Chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		if reply.Trailers {
			dst = r.appendTrailer(dst, buf, r.Fields())
		}
	}
	switch {
	case r.Status == 101:
	case reply.Close:
		dst = append(dst, "Connection: close\r\n"...)
	case reply.KeepAlive:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	if reply.Via != "" {
		dst = appendVia(dst, r.Minor, reply.Via)
	}
	if reply.Tells {
		dst = append(dst, "Proxy-Status: muster; received-status="...)
		dst = strconv.AppendInt(dst, int64(r.Status), 10)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "X-Request-Id: "...)
	dst = append(dst, reply.RequestID...)
	return append(dst, "\r\n\r\n"...)
}

// AppendAnnounced appends the names that Trailer announces and that may be
// passed on, separated by commas. It is what [Chunks.AppendTrailers] wants.
func (r *Response) AppendAnnounced(dst, buf []byte) []byte {
	return r.appendAnnounced(dst, buf, r.Fields())
}
