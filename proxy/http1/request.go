// This file runs once per request.

package http1

import "bytes"

// A Body is how a message's body ends (RFC 9112, section 6).
type Body uint8

// The ways. A request has no body that ends with the connection.
const (
	None       Body = iota // there is none
	Sized                  // Length bytes
	Chunked                // by its last chunk
	UntilClose             // with the connection
)

// A Request is the head of a request. Spans are offsets into the buffer it was
// parsed from. Reset it before the next head.
type Request struct {
	Rules *Rules // nil: the defaults. Reset leaves them

	Method    Span
	Target    Span // as it came
	Path      Span // of the target, without the query; may be empty in absolute-form
	Authority Span // host and port: Host, or the target's; empty in HTTP/1.0 without Host
	Minor     int  // of the version: 0 for HTTP/1.0, else 1
	Version   Span // as it came

	Asterisk bool // OPTIONS *: a question to the proxy
	Final    bool // Max-Forwards: 0 on OPTIONS or TRACE: likewise
	Looped   bool // Via has our name already
	Dotted   bool // the path has segments of dots, which Rules let pass
	Trace    bool // TRACE or TRACK: the answer would show what browsers hide, credentials

	Body   Body
	Length int64 // of a Sized body

	Close     bool // the client keeps the connection for no more requests
	KeepAlive bool // HTTP/1.0, and it does keep it: an answer has to say so too
	Expect    bool // it waits for a 100 before it sends the body
	Trailers  bool // it takes trailers
	Upgrade   Span // the protocol that the request may switch to; empty: none

	Referer, UserAgent Span
	RequestID          Span // of a trusted client; empty: none that is valid

	head
	started   bool
	empty     int // lines before the request line
	origin    Span
	authority Span // of an absolute target
	https     bool
	rootless  bool // the path of an absolute target is empty
	forwards  int64

	// What a trusted client says: see trust.
	outerProto, outerHost Span
	port, prefix, realIP  int16 // of the table; -1: none
	elements              bool  // Forwarded can be read

	table [MaxRequestFields]Field
}

// Fields are the lines of the head, in order.
func (r *Request) Fields() []Field { return r.table[:r.n] }

// Reset makes r ready for another head.
func (r *Request) Reset() {
	r.Method, r.Target, r.Path, r.Authority, r.Version = Span{}, Span{}, Span{}, Span{}, Span{}
	r.Minor, r.Length, r.Body = 0, 0, None
	r.Trace, r.Looped, r.Dotted = false, false, false
	r.Asterisk, r.Final, r.Close, r.KeepAlive, r.Expect, r.Trailers = false, false, false, false, false, false
	r.Upgrade, r.Referer, r.UserAgent = Span{}, Span{}, Span{}
	r.started, r.empty = false, 0
	r.origin, r.authority, r.https, r.rootless, r.forwards = Span{}, Span{}, false, false, 0
	r.RequestID, r.outerProto, r.outerHost, r.elements = Span{}, Span{}, Span{}, false
	r.head.reset()
	r.head.rules = r.Rules
}

// maxEmptyLines may stand before a request (RFC 9112, section 2.2).
const maxEmptyLines = 4

// maxMethod is how long a method may be.
const maxMethod = 64

// Parse reads a head from buf, which holds what has come of it so far, from its
// first byte on. It returns the length of the head once it is complete, and 0
// while it is not.
func (r *Request) Parse(buf []byte, limits Limits) (n int, f Fault) {
	for !r.started {
		if ok, f := r.start(buf, limits); !ok {
			return 0, f
		}
	}
	done, f := r.fields(buf, r.table[:limits.Fields], limits.Head)
	if !done {
		return 0, f
	}
	if f := r.finish(buf); f != 0 {
		return 0, f
	}
	return r.pos, 0
}

// Offset is where a fault was found, or how far Parse came.
func (r *Request) Offset() int { return r.pos }

// start takes the first line, or an empty one before it.
func (r *Request) start(buf []byte, limits Limits) (ok bool, f Fault) {
	if len(buf) <= r.pos {
		return false, 0
	}
	switch c := buf[r.pos]; {
	case c == '\r':
		if len(buf) == r.pos+1 {
			return false, 0
		}
		if buf[r.pos+1] != '\n' {
			return false, LineEnd
		}
		if r.empty == maxEmptyLines {
			return false, EmptyLines
		}
		r.empty++
		r.pos, r.seen = r.pos+2, r.pos+2
		return true, 0
	case c == '\n':
		return false, LineEnd
	case class[c]&inToken == 0:
		return false, NotHTTP
	}
	limit, over := limits.Head, HeadTooLarge
	if most := r.pos + maxMethod + 1 + limits.Target + len(" HTTP/1.1\r\n"); most < limit {
		limit, over = most, TargetLong
	}
	line, ok, f := r.line(buf, limit, over)
	if !ok {
		return false, f
	}
	r.started = true
	f = r.requestLine(buf, line, limits.Target)
	return f == 0, f
}

// requestLine reads METHOD SP TARGET SP VERSION (RFC 9112, section 3).
func (r *Request) requestLine(buf []byte, at Span, maxTarget int) Fault {
	line := at.In(buf)
	if bytes.IndexByte(line, '\r') >= 0 {
		return LineEnd
	}
	sp := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if sp < 0 {
		return RequestLine
	}
	r.Method = Span{at.Start, at.Start + uint32(sp)}
	method := r.Method.In(buf)
	switch {
	case !isToken(method):
		return Method
	case last <= sp+1:
		return RequestLine
	}
	if f := r.version(line[last+1:]); f != 0 {
		return f
	}
	r.Version = Span{at.Start + uint32(last) + 1, at.End}
	switch {
	case len(method) > maxMethod:
		return MethodLong
	case string(method) == "CONNECT":
		return MethodDenied // a tunnel: what follows is no HTTP
	case last-sp-1 > maxTarget:
		return TargetLong
	}
	return r.target(buf, Span{at.Start + uint32(sp) + 1, at.Start + uint32(last)})
}

// version reads "HTTP/1.1" and the like (RFC 9112, section 2.3; RFC 9110,
// section 2.5: a higher minor version is read as 1.1).
func (r *Request) version(v []byte) Fault {
	if len(v) != len("HTTP/1.1") || string(v[:5]) != "HTTP/" || class[v[5]]&inDigit == 0 || v[6] != '.' || class[v[7]]&inDigit == 0 {
		return Version
	}
	if v[5] != '1' {
		return OtherVersion
	}
	r.Minor = min(int(v[7]-'0'), 1)
	return 0
}

// finish draws the conclusions from the fields, once they are all there.
func (r *Request) finish(buf []byte) Fault {
	var (
		host, coding, protocol, expect Span
		hosts, lengths, codings        int
		protocols, expects, forwards   int
		badLength                      bool
	)
	for i := range r.table[:r.n] {
		f := &r.table[i]
		switch f.ID {
		case Other:
		case Host:
			host = f.Value
			hosts++
		case ContentLength:
			var ok bool
			if r.Length, ok = number(f.Value.In(buf)); !ok {
				badLength = true
			}
			lengths++
		case TransferEncoding:
			coding = f.Value
			codings++
		case Connection:
			if fault := r.nominate(buf, f.Value); fault != 0 {
				return fault
			}
		case Upgrade:
			protocol = f.Value
			protocols++
		case Expect:
			expect = f.Value
			expects++
		case TE:
			for m := range members(f.Value.In(buf)) {
				name, _, _ := bytes.Cut(m, semicolon)
				r.Trailers = r.Trailers || equal(trim(name), "trailers")
			}
		case Trailer:
			r.trailer = true
		case MaxForwards:
			forwards++
			n, ok := number(f.Value.In(buf))
			if r.forwards = n; !ok {
				forwards = 2 // dropped
			}
		case Referer:
			r.Referer = f.Value
		case UserAgent:
			r.UserAgent = f.Value
		}
	}
	if f := r.framing(buf, lengths, badLength, codings, coding); f != 0 {
		return f
	}
	if f := r.host(buf, hosts, host); f != 0 {
		return f
	}
	if f := r.expectation(buf, expects, expect); f != 0 {
		return f
	}
	r.Close = r.closes(r.Minor)
	r.KeepAlive = r.Minor == 0 && !r.Close
	method := r.Method.In(buf)
	if r.Minor == 1 && r.Body == None && r.says&saysUpgrade != 0 && protocols == 1 &&
		string(method) == "GET" && equal(protocol.In(buf), "websocket") {
		r.Upgrade = protocol
	}
	r.Trace = string(method) == "TRACE" || string(method) == "TRACK"
	counting := r.Trace || string(method) == "OPTIONS"
	if forwards != 1 || !counting {
		r.forwards = -1
	}
	r.Final = r.forwards == 0
	if r.Rules != nil {
		return r.follow(buf, counting)
	}
	r.choose(buf, counting)
	return 0
}

// framing decides where the body ends (RFC 9112, section 6.3), and refuses
// whatever another reader could decide otherwise.
func (r *Request) framing(buf []byte, lengths int, badLength bool, codings int, coding Span) Fault {
	switch {
	case lengths > 0 && codings > 0:
		return LengthAndCoded
	case lengths > 1:
		return LengthTwice
	case badLength:
		return Length
	case codings == 0:
		if lengths == 1 {
			r.Body = Sized
		}
		return 0
	case r.Minor == 0:
		return CodingVersion
	case codings > 1:
		return Coding
	}
	if f := codingFault(coding.In(buf)); f != 0 {
		return f
	}
	r.Body = Chunked
	return 0
}

// codingFault judges the value of the one Transfer-Encoding.
func codingFault(value []byte) Fault {
	if equal(value, "chunked") {
		return 0
	}
	comma := bytes.LastIndexByte(value, ',')
	if comma < 0 || !equal(trim(value[comma+1:]), "chunked") {
		return Coding
	}
	for m := range members(value[:comma]) {
		if !isToken(m) || equal(m, "chunked") || equal(m, "identity") {
			return Coding
		}
		return CodingUnknown
	}
	return Coding
}

// host decides what the request is for (RFC 9110, section 7.2; RFC 9112,
// section 3.2.2).
func (r *Request) host(buf []byte, hosts int, host Span) Fault {
	switch {
	case hosts > 1:
		return HostTwice
	case hosts == 0 && r.Minor == 1:
		return HostMissing
	case hosts == 1 && !goodHost(host.In(buf)):
		return HostValue
	case r.authority.Len() == 0:
		r.Authority = host
		return 0
	case hosts == 1 && !sameHost(r.authority.In(buf), host.In(buf), r.https):
		return TargetAnother
	}
	r.Authority = r.authority
	return 0
}

// expectation reads Expect (RFC 9110, section 10.1.1). Without a body, and in
// HTTP/1.0, it means nothing.
func (r *Request) expectation(buf []byte, expects int, value Span) Fault {
	if expects == 0 {
		return 0
	}
	if expects > 1 || !equal(value.In(buf), "100-continue") {
		return Expectation
	}
	r.Expect = r.Minor == 1 && (r.Body == Chunked || r.Length > 0)
	return 0
}

// choose decides which fields are passed on as they are. It comes before ours
// are written, so nobody can have those removed (RFC 9110, section 7.6.1).
func (r *Request) choose(buf []byte, counting bool) {
	for i := range r.table[:r.n] {
		f := &r.table[i]
		f.drop = f.ID.managed() && (f.ID != MaxForwards || counting) || f.class != inWord && alias(f.Name.In(buf), f.class) ||
			r.nominating > 0 && r.isNominated(buf, f.Name.In(buf))
	}
}
