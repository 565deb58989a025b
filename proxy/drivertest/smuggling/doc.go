// Package smuggling sends ambiguous messages through a proxy to real servers
// and sees whether the two ever disagree on where a message ends: nginx,
// HAProxy, Go's net/http and Node, each with its own idea of HTTP.
//
//	client ──> proxy ──> origin
//	  │          │          └ says of each request it saw: its target and its X-Request-Id
//	  │          └ gives each request it saw an X-Request-Id
//	  └ sends a message in which another is hidden, a marked request behind it in
//	    the same write, and then, by another connection, a request of a stranger
//
// A message is made of a base, in which the hidden request is a body by one
// reading and a request by another, and of one or two oddities out of three
// groups: framing, head, and chunks. Every two of different groups are tried
// together.
//
// Whatever the proxy does with such a message, to refuse it is always right. It
// is wrong when
//
//   - the origin sees a request without an id: one that the proxy never saw;
//   - the answer to a request is that of another, by the target that it echoes;
//   - the stranger's request is not answered as itself.
package smuggling
