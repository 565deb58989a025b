// This file runs once per request.

package portable

import (
	"time"

	"muster/proxy/balance"
	"muster/proxy/http1"
)

// An upload is a request as it goes upstream: the head and the body, read from
// the client once. What was sent of it is kept as long as the body is short, so
// that it can be sent again.
//
// It belongs to the exchange, and while the helper runs to that.
type upload struct {
	out     buffer // the head, and what has come of the body, as it is sent; unless lost
	headLen int    // of out
	kept    int    // bytes of content in out
	lost    bool   // more has come than out holds
	over    bool   // the whole body has come
	framing http1.Body
	left    int64         // of a sized body
	most    int64         // bytes of content that a chunked body may have; zero: no limit
	came    int64         // bytes of its content so far
	read    int64         // bytes that were read of it, where its rate counts
	waited  time.Duration // for them
	chunks  http1.Chunks
	names   []byte // of the trailer fields that are passed on
	large   buffer // what the body is read into when conn.in is used up
	tail    []byte // the end of a chunked body, built aside

	kind balance.Kind // why the client's body will not end
}

// begin makes ready for a request's body.
func (b *upload) begin(x *exchange) {
	b.kept, b.lost, b.kind = 0, false, balance.OK
	b.most, b.came, b.read, b.waited = 0, 0, 0, 0
	b.framing, b.left = x.req.Body, x.req.Length
	b.over = b.framing == http1.None || b.framing == http1.Sized && b.left == 0
	if b.framing == http1.Chunked {
		b.chunks.Reset()
		b.names = x.req.AppendAnnounced(b.names[:0], x.head)
	}
}

// finish gives up what the body held. What was read behind it becomes the
// connection's.
func (b *upload) finish(in *buffer) {
	b.kind = balance.OK
	b.out.release()
	if b.large.len() > 0 && b.over {
		in.release()
		*in, b.large = b.large, buffer{}
	} else {
		b.large.release()
	}
}

// take makes of what has come of the body what is sent upstream: a piece and
// then the end of the body, each of which may be empty. They are good until the
// next take.
func (b *upload) take(in *buffer) (piece, tail []byte, f http1.Fault) {
	if in.len() == 0 {
		in = &b.large
	}
	if b.over || in.len() == 0 {
		return nil, nil, 0
	}
	if b.framing == http1.Sized {
		n := int(min(int64(in.len()), b.left))
		piece = in.p[in.r : in.r+n]
		in.r += n
		b.left -= int64(n)
		b.over = b.left == 0
		piece, tail = b.keep(piece, nil, n)
		return piece, tail, 0
	}
	start, end, f := squeeze(&b.chunks, in, &b.tail, b.names)
	if f != 0 {
		return nil, nil, f
	}
	b.over = b.chunks.Done()
	n := end - start
	if b.came += int64(n); b.most > 0 && b.came > b.most {
		return nil, nil, http1.BodyLarge
	}
	if n > 0 {
		start, end = wrap(in.p, start, end)
		piece = in.p[start:end]
	}
	piece, tail = b.keep(piece, b.tail, n)
	if !b.over && in != &b.large && in.len() > 0 {
		// The begin of a trailer section, which has to lie in one piece. in has the
		// head too, and that stays where it is.
		b.large.hold(largeBlock)
		b.large.append(in.bytes())
		in.r = in.w
	}
	return piece, tail, 0
}

// keep keeps what goes upstream, if there is room.
func (b *upload) keep(piece, tail []byte, content int) (kept, rest []byte) {
	size := len(piece) + len(tail)
	if size == 0 {
		return nil, nil
	}
	if b.lost || b.kept+content > balance.KeptBody || b.out.len()+size > hugeBlock {
		b.lost = true
		return piece, tail
	}
	at := b.out.len()
	b.out.append(piece)
	b.out.append(tail)
	b.kept += content
	return b.out.bytes()[at:], nil
}

// squeeze takes what in has of a chunked body: the content, moved together, is
// in.p[start:end]. tail is set to the body's end, trailers and all, once that
// has come, and else to nothing.
func squeeze(c *http1.Chunks, in *buffer, tail *[]byte, names []byte) (start, end int, f http1.Fault) {
	*tail = (*tail)[:0]
	for {
		p := in.bytes()
		data, n, f := c.Next(p)
		if f != 0 {
			return 0, 0, f
		}
		if len(data) > 0 {
			at := in.r + n - len(data)
			if end == 0 {
				start, end = at, at
			}
			end += copy(in.p[end:], in.p[at:at+len(data)])
		}
		if c.Done() {
			*tail = append(*tail, "0\r\n"...)
			*tail = c.AppendTrailers(*tail, p, names)
			*tail = append(*tail, "\r\n"...)
			in.r += n
			return start, end, 0
		}
		if n == 0 {
			return start, end, 0
		}
		in.r += n
	}
}

// wrap makes one chunk of p[start:end]: its size line goes in front, where there
// is room, because a head or another size line was there, and CRLF behind, where
// either nothing is left to read or CRLF and more were.
func wrap(p []byte, start, end int) (int, int) {
	var line [http1.ChunkHead]byte
	size := http1.AppendChunk(line[:0], end-start)
	copy(p[end:], "\r\n")
	return start - copy(p[start-len(size):], size), end + 2
}
