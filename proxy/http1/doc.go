// Package http1 is the grammar of HTTP/1 messages (RFC 9110 and 9112): pure
// functions over the bytes that a driver has read. It does no I/O, allocates
// nothing and keeps nothing of a buffer but offsets into it.
//
//	Request.Parse(bytes so far) ─> head complete, more bytes wanted, or a Fault
//	Request.AppendHead(dst) ─────> the head that goes to an endpoint
//	Chunks.Next(bytes) ──────────> content of a chunked body, then its trailers
//	Response.Parse, .AppendHead ─> the same for an answer
//
// It refuses what two readers might take differently, and repairs nothing: one
// message has one reading. What is sent on is written anew from what was
// parsed, with one framing field, whole lines and no field that concerns one
// connection only; bytes are copied only where they are what would be written.
//
// A verdict depends on the bytes alone and never on how they were split: Parse
// is called with all bytes of the head read so far, remembers where it stands,
// and looks at each byte once.
package http1
