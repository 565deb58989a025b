// This file runs once per request.

package http1

import "bytes"

// A Span is a part of the buffer that was parsed, by offsets.
type Span struct{ Start, End uint32 }

// In returns the part of buf, which is or begins with what was parsed.
func (s Span) In(buf []byte) []byte { return buf[s.Start:s.End] }

// Len is the number of bytes.
func (s Span) Len() int { return int(s.End - s.Start) }

// A Field is one line of a head or a trailer section.
type Field struct {
	Name, Value Span // without the white space around
	ID          Name // what it is, where that matters here; zero: something else

	class uint8 // of the bytes in the name, together
	copy  bool  // the line is as it would be written
	drop  bool  // not to be passed on
}

// Limits bound a head. Drivers check nothing themselves: what is over a limit is
// a fault as soon as that is known.
type Limits struct {
	Head   int // bytes of the whole head; empty lines before it count
	Target int // bytes of a request's target
	Fields int // lines; no more than MaxRequestFields or MaxResponseFields
}

// How many fields there is room for.
const (
	MaxRequestFields  = 128
	MaxResponseFields = 256
	MaxTrailerFields  = 32
)

// maxNominated is how many members Connection may have.
const maxNominated = 32

// A head is what requests, responses and trailer sections are parsed with.
type head struct {
	n    int // fields so far
	pos  int // where the line begins that is not complete yet
	seen int // from pos to here there is no line feed

	rules      *Rules     // of a request
	trailer    bool       // it has Trailer fields
	says       connection // all lines of Connection
	nominating int
	nominated  [maxNominated]Span // members of Connection that may name fields
}

func (h *head) reset() {
	h.n, h.pos, h.seen = 0, 0, 0
	h.trailer, h.says, h.nominating = false, 0, 0
}

// line takes the next line, without its end. Not ok and no fault: it is not
// complete. Where no line end comes within the first limit bytes of buf the
// fault is over.
func (h *head) line(buf []byte, limit int, over Fault) (line Span, ok bool, f Fault) {
	window := buf[:min(len(buf), limit)]
	i := bytes.IndexByte(window[h.seen:], '\n')
	if i < 0 {
		h.seen = len(window)
		if len(window) == limit {
			return Span{}, false, over
		}
		return Span{}, false, 0
	}
	end := h.seen + i
	if end == h.pos || buf[end-1] != '\r' {
		return Span{}, false, LineEnd
	}
	line = Span{uint32(h.pos), uint32(end - 1)}
	h.pos, h.seen = end+1, end+1
	return line, true, 0
}

// fields takes field lines up to and with the empty one, into table. Done says
// that it came.
func (h *head) fields(buf []byte, table []Field, limit int) (done bool, f Fault) {
	for {
		line, ok, f := h.line(buf, limit, HeadTooLarge)
		if !ok {
			return false, f
		}
		if line.Len() == 0 {
			return true, 0
		}
		if h.n == len(table) {
			return false, ManyFields
		}
		if f := table[h.n].parse(buf, line); f != 0 {
			return false, f
		}
		h.n++
	}
}

// parse reads one field line (RFC 9112, section 5).
func (fl *Field) parse(buf []byte, at Span) Fault {
	line := at.In(buf)
	if line[0] == ' ' || line[0] == '\t' {
		return FieldFolded
	}
	colon := 0
	var c uint8
	for colon < len(line) {
		k := class[line[colon]] & inToken
		if k == 0 {
			break
		}
		c |= k
		colon++
	}
	switch {
	case colon == len(line):
		return FieldColon
	case line[colon] == ' ' || line[colon] == '\t':
		return FieldColon
	case line[colon] != ':' || colon == 0:
		return FieldName
	}
	from, to := colon+1, len(line)
	for from < to && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	for to > from && (line[to-1] == ' ' || line[to-1] == '\t') {
		to--
	}
	if !goodValue(line[from:to]) {
		if bytes.IndexByte(line[from:to], '\r') >= 0 {
			return LineEnd
		}
		return FieldValue
	}
	*fl = Field{
		Name:  Span{at.Start, at.Start + uint32(colon)},
		Value: Span{at.Start + uint32(from), at.Start + uint32(to)},
		ID:    identify(line[:colon]),
		class: c,
		copy:  from == colon+2 && line[colon+1] == ' ' && to == len(line),
	}
	return 0
}

// nominate notes the members of one Connection line (RFC 9110, section 7.6.1).
func (h *head) nominate(buf []byte, value Span) Fault {
	base := int(value.Start)
	list := value.In(buf)
	for at := 0; at < len(list); {
		end := at
		for end < len(list) && list[end] != ',' {
			end++
		}
		member := trim(list[at:end])
		from := base + at
		for from < base+end && (buf[from] == ' ' || buf[from] == '\t') {
			from++
		}
		at = end + 1
		if len(member) == 0 {
			continue
		}
		if h.nominating == maxNominated {
			return Nominations
		}
		h.nominated[h.nominating] = Span{uint32(from), uint32(from + len(member))}
		h.nominating++
		switch {
		case equal(member, "close"):
			h.says |= saysClose
		case equal(member, "keep-alive"):
			h.says |= saysKeepAlive
		case equal(member, "upgrade"):
			h.says |= saysUpgrade
		}
	}
	return 0
}

// closes reports whether the connection carries no other message, in HTTP/1.minor
// (RFC 9112, section 9.3).
func (h *head) closes(minor int) bool {
	return h.says&saysClose != 0 || minor == 0 && h.says&saysKeepAlive == 0
}

// connection is what Connection says that matters here.
type connection uint8

const (
	saysClose connection = 1 << iota
	saysKeepAlive
	saysUpgrade
)

// isNominated reports whether Connection names a field.
func (h *head) isNominated(buf, name []byte) bool {
	for _, m := range h.nominated[:h.nominating] {
		if equalFold(m.In(buf), name) {
			return true
		}
	}
	return false
}

// appendFields writes the fields that are passed on: whole runs of lines that
// are as they would be written, and the others anew.
func appendFields(dst, buf []byte, fields []Field) []byte {
	for i := 0; i < len(fields); {
		f := &fields[i]
		switch {
		case f.drop:
			i++
		case f.copy:
			first := f.Name.Start
			for i++; i < len(fields) && fields[i].copy && !fields[i].drop; i++ {
				f = &fields[i]
			}
			dst = append(dst, buf[first:f.Value.End+2]...)
		default:
			dst = appendField(dst, f.Name.In(buf), f.Value.In(buf))
			i++
		}
	}
	return dst
}

func appendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}
