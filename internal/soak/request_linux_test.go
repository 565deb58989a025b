package soak_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// A request is one that a client may send: its bytes, and what must come back.
type request struct {
	id     string // in X-Soak, and in the answer's
	kind   string
	size   int    // bytes of the body that goes, or comes
	body   []byte // that goes, and comes back
	wait   bool   // the body waits for 100
	sums   bool   // the body is chunked, and a trailer follows it
	upload bool
}

// What an origin does with a request is the first element of its path.
const (
	kindBytes   = "bytes"   // size bytes, with a length
	kindChunks  = "chunks"  // the same chunked, with a trailer
	kindClosing = "closing" // the same until the connection ends
	kindHints   = "hints"   // a 103 before it
	kindHead    = "head"    // asked for by HEAD
	kindEcho    = "echo"    // the body as it comes
	kindEarly   = "early"   // 413 before the body has come
	kindTunnel  = "tunnel"  // 101, and then an echo of bytes
	kindCut     = "cut"     // a part of what was promised
	kindDie     = "die"     // the connection ends without an answer
	kindSilent  = "silent"  // nothing
	kindGarbage = "garbage" // not HTTP
)

// kinds has what happens often more than once.
var kinds = []string{
	kindBytes, kindBytes, kindBytes, kindBytes, kindBytes, kindBytes, kindChunks, kindChunks, kindHead, kindHints,
	kindEcho, kindEcho, kindEcho, kindEcho, kindEcho, kindClosing, kindTunnel, kindEarly, kindCut, kindDie, kindGarbage,
}

func newRequest(rnd *rand.Rand, id string) request {
	r := request{id: id, kind: kinds[rnd.IntN(len(kinds))], size: someSize(rnd)}
	if rnd.IntN(300) == 0 {
		r.kind = kindSilent
	}
	switch r.kind {
	case kindEcho, kindTunnel, kindEarly:
		r.body = pattern(id, r.size)
	}
	if r.kind == kindEcho || r.kind == kindEarly {
		r.upload, r.sums, r.wait = true, rnd.IntN(2) == 0, rnd.IntN(8) == 0
	}
	return r
}

// someSize is mostly small, and at times more than any buffer.
func someSize(rnd *rand.Rand) int {
	return rnd.IntN([...]int{2, 200, 200, 2000, 20_000, 300_000}[rnd.IntN(6)])
}

// pattern is n bytes that only this id has.
func pattern(id string, n int) []byte {
	sum := sha256.Sum256([]byte(id))
	src := rand.NewPCG(binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:]))
	p := make([]byte, 0, n+8)
	for len(p) < n {
		p = binary.LittleEndian.AppendUint64(p, src.Uint64())
	}
	return p[:n]
}

// head is the request line and the fields.
func (r *request) head() string {
	method := "GET"
	switch {
	case r.kind == kindHead:
		method = "HEAD"
	case r.upload:
		method = "POST"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s /%s?n=%d&id=%s HTTP/1.1\r\nHost: soak.test\r\nX-Request-Id: %[4]s\r\nX-Soak: %[4]s\r\n", method, r.kind, r.size, r.id)
	switch {
	case r.kind == kindTunnel:
		b.WriteString("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c29ha3NvYWtzb2Frc29haw==\r\n")
	case r.sums:
		b.WriteString("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n")
	case r.upload:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.body))
	}
	if r.trailer() != "" {
		b.WriteString("Connection: TE\r\nTE: trailers\r\n")
	}
	if r.wait {
		b.WriteString("Expect: 100-continue\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// payload is the body as it goes out.
func (r *request) payload(rnd *rand.Rand) []byte {
	switch {
	case !r.upload:
		return nil
	case !r.sums:
		return r.body
	}
	var b []byte
	for rest := r.body; len(rest) > 0; {
		n := 1 + rnd.IntN(len(rest))
		b = append(strconv.AppendInt(b, int64(n), 16), "\r\n"...)
		b = append(append(b, rest[:n]...), "\r\n"...)
		rest = rest[n:]
	}
	return fmt.Appendf(b, "0\r\nX-Sum: %s\r\n\r\n", r.id)
}
