// This file runs once per request that a trusted proxy sends.

package portable

import (
	"net/netip"

	"muster/proxy/http1"
)

// toldClient is the client that trusted proxies tell of: of the addresses that
// the request has been at the last one that is not trusted itself. What is left
// of that anybody may have made up (RFC 7239, section 8.1).
func (x *exchange) toldClient() string {
	var hops [http1.MaxHops]http1.Span
	client := x.conn.peer
	for n := x.req.Hops(x.head, &hops); n > 0; n-- {
		text, addr := node(x.text(hops[n-1]))
		if !addr.IsValid() {
			break
		}
		client = text
		if !x.conn.how.trusts(addr) {
			break
		}
	}
	return client
}

// node reads an address that may have a port, and then brackets if it is of IPv6.
func node(text string) (string, netip.Addr) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return text, addr.Unmap()
	}
	if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
		return node(text[1 : n-1])
	}
	both, err := netip.ParseAddrPort(text)
	if err != nil || both.Addr().Zone() != "" {
		return "", netip.Addr{}
	}
	end := len(text) - 1
	for text[end] != ':' {
		end--
	}
	text = text[:end]
	if text[0] == '[' {
		text = text[1 : end-1]
	}
	return text, both.Addr().Unmap()
}
