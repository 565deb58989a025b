// Package balance decides where a request goes and what becomes of it when that
// fails. It opens no socket, reads no clock and knows no HTTP library, so every
// driver of the proxy (portable, loop) decides alike.
//
// The order of things for one request:
//
//	Table.Match(host, path) ─> Service ─> Attempts.First ─> Upstream.Begin
//	                                          │ the driver sends the request
//	             Attempts.Next(Failure) <─────┤ no answer: where else, or which error answer
//	                                          └─> Upstream.End, Stats.Done, Record
//
// A [Table] never changes; the proxy builds the next one aside and swaps it in.
// An [Upstream] is the running state of one endpoint and lives through every
// swap.
package balance
