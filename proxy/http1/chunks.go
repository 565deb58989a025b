// This file runs once per request.

package http1

import (
	"strconv"
)

// Chunks reads a chunked body (RFC 9112, section 7.1). The zero value is at its
// begin; Reset brings one there.
type Chunks struct {
	state  uint8
	digits int    // of the size so far
	left   uint64 // bytes of the chunk's data to come; while its size is read, the size
	lineAt int    // bytes of the size line so far
	debt   int    // bytes of framing that no content has paid for

	section head
	trailer [MaxTrailerFields]Field
}

// Where in a chunk: the states between Next calls.
const (
	inSize       = iota
	inSpace      // behind a size or an extension: ";" has to come
	inNameSpace  // behind an extension's name: ";" or "=" has to come
	inExt        // behind ";"
	inExtName    //
	inExtEqual   // behind "="
	inExtValue   //
	inQuotes     //
	inQuotedPair // behind a backslash
	inQuotesEnd  // behind the closing quote
	inLineEnd    // behind CR
	inData       //
	inDataEnd    // CR has to come
	inDataEnd2   // LF has to come
	inTrailer    //
	inEnd        //
)

const (
	maxSizeDigits = 16
	maxSizeLine   = 512
	maxDebt       = 16 << 10
	maxTrailer    = 8 << 10 // bytes of the trailer section
)

// Reset makes c ready for another body.
func (c *Chunks) Reset() {
	c.state, c.digits, c.left, c.lineAt, c.debt = inSize, 0, 0, 0, 0
	c.section.reset()
}

// Done reports that the body has ended, trailers too.
func (c *Chunks) Done() bool { return c.state == inEnd }

// Next consumes the first n bytes of p. Either they end in content, which is
// the part of p that data is; or they are framing. The content of one chunk may
// come in many parts. A trailer section is only taken whole: n is 0 until p
// holds all of it, no more than 8 KiB, and p then begins with it the next time
// too.
func (c *Chunks) Next(p []byte) (data []byte, n int, f Fault) {
	for n < len(p) {
		switch c.state {
		case inData:
			take := min(c.left, uint64(len(p)-n))
			data = p[n : n+int(take)]
			if c.left -= take; c.left == 0 {
				c.state = inDataEnd
			}
			return data, n + int(take), 0
		case inTrailer:
			if n > 0 {
				return nil, n, 0
			}
			done, f := c.section.fields(p, c.trailer[:], maxTrailer)
			if !done {
				return nil, 0, f
			}
			c.state = inEnd
			return nil, c.section.pos, 0
		case inEnd:
			return nil, n, 0
		default:
			if f := c.step(p[n]); f != 0 {
				return nil, n, f
			}
			n++
		}
	}
	return nil, n, 0
}

// step takes one byte of framing.
func (c *Chunks) step(b byte) Fault {
	switch c.state {
	case inDataEnd:
		if b != '\r' {
			return ChunkEnd
		}
		c.state = inDataEnd2
		return 0
	case inDataEnd2:
		if b != '\n' {
			return ChunkEnd
		}
		c.state = inSize
		return 0
	case inLineEnd:
		if b != '\n' {
			return LineEnd
		}
		return c.sized()
	}
	if c.lineAt++; c.lineAt > maxSizeLine && b != '\r' {
		return ChunkLine
	}
	if c.state == inSize {
		return c.size(b)
	}
	return c.extension(b)
}

// size takes a byte of a chunk's size, or the one behind it.
func (c *Chunks) size(b byte) Fault {
	if class[b]&inHex != 0 {
		if c.digits == maxSizeDigits {
			return ChunkSize
		}
		c.digits++
		c.left = c.left<<4 | unhex(b)
		return 0
	}
	if c.digits == 0 || c.left > 1<<63-1 {
		return ChunkSize
	}
	switch b {
	case '\r':
		c.state = inLineEnd
	case ';':
		c.state = inExt
	case ' ', '\t':
		c.state = inSpace
	default:
		return ChunkSize
	}
	return 0
}

// extension takes a byte of *( BWS ";" BWS token [ BWS "=" BWS ( token /
// quoted-string ) ] ) (RFC 9112, section 7.1.1). Extensions are not passed on.
func (c *Chunks) extension(b byte) Fault {
	space := b == ' ' || b == '\t'
	token := class[b]&inToken != 0
	switch c.state {
	case inSpace:
		switch {
		case space:
		case b == ';':
			c.state = inExt
		default:
			return ChunkExt
		}
	case inExt:
		switch {
		case space:
		case token:
			c.state = inExtName
		default:
			return ChunkExt
		}
	case inExtName, inNameSpace:
		switch {
		case token && c.state == inExtName:
		case space:
			c.state = inNameSpace
		case b == ';':
			c.state = inExt
		case b == '=':
			c.state = inExtEqual
		case b == '\r' && c.state == inExtName:
			c.state = inLineEnd
		default:
			return ChunkExt
		}
	case inExtEqual:
		switch {
		case space:
		case token:
			c.state = inExtValue
		case b == '"':
			c.state = inQuotes
		default:
			return ChunkExt
		}
	case inExtValue, inQuotesEnd:
		switch {
		case token && c.state == inExtValue:
		case space:
			c.state = inSpace
		case b == ';':
			c.state = inExt
		case b == '\r':
			c.state = inLineEnd
		default:
			return ChunkExt
		}
	case inQuotes:
		switch {
		case b == '"':
			c.state = inQuotesEnd
		case b == '\\':
			c.state = inQuotedPair
		case b < ' ' && b != '\t' || b == 0x7f:
			return ChunkExt
		}
	case inQuotedPair:
		if b < ' ' && b != '\t' || b == 0x7f {
			return ChunkExt
		}
		c.state = inQuotes
	}
	return 0
}

// sized is called at the end of a size line.
func (c *Chunks) sized() Fault {
	// Each chunk earns 16 bytes and twice its content; what its line costs beyond
	// that adds up.
	earned := 16 + 2*min(c.left, 1<<20)
	if c.debt = max(c.debt+c.lineAt+1-int(earned), 0); c.debt > maxDebt {
		return ChunkWaste
	}
	c.state = inData
	if c.left == 0 {
		c.state = inTrailer
	}
	c.digits, c.lineAt = 0, 0
	return 0
}

// AppendTrailers appends the trailer fields, whose section p was, that announced
// names: the list that [Request.AppendAnnounced] made. It is called when Done.
func (c *Chunks) AppendTrailers(dst, p, announced []byte) []byte {
	if len(announced) == 0 {
		return dst
	}
	for i := range c.trailer[:c.section.n] {
		f := &c.trailer[i]
		name := f.Name.In(p)
		for m := range members(announced) {
			if equalFold(m, name) {
				dst = appendField(dst, name, f.Value.In(p))
				break
			}
		}
	}
	return dst
}

// ChunkHead is the most that AppendChunk appends.
const ChunkHead = 18

// AppendChunk appends the size line of a chunk of n bytes. Behind them comes
// CRLF, and the last chunk is "0", CRLF, trailers and CRLF.
func AppendChunk(dst []byte, n int) []byte {
	dst = strconv.AppendUint(dst, uint64(n), 16)
	return append(dst, "\r\n"...)
}
