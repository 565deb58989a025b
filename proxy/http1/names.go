// This file runs once per request.

package http1

// A Name is a field name that means something here.
type Name uint8

// The names. What becomes of each in a request that is passed on:
const (
	Other Name = iota

	// Framing and routing: written anew.
	Host
	ContentLength
	TransferEncoding

	// Of one connection only (RFC 9110, section 7.6.1): removed.
	Connection
	TE // written anew as "trailers", if that was in it
	KeepAlive
	ProxyConnection
	Upgrade // written anew where an upgrade is offered
	HTTP2Settings
	ProxyAuthenticate
	ProxyAuthorization

	// Written anew, or answered here.
	Trailer
	Expect
	MaxForwards // of OPTIONS and TRACE, else passed on

	// What only a trusted proxy may say: dropped from strangers, and ours set.
	Forwarding // X-Forwarded-*, Forwarded, X-Real-IP and the like
	RequestID

	// What makes servers look elsewhere than where the request was routed.
	Rerouting

	// Read here, and passed on.
	Referer
	UserAgent
	ContentType
	Date
)

type known struct {
	name string
	id   Name
}

// names are the known names by their length.
var names = func() (t [len("x-cluster-client-ip") + 1][]known) {
	for _, k := range []known{
		{"host", Host},
		{"content-length", ContentLength},
		{"transfer-encoding", TransferEncoding},
		{"connection", Connection},
		{"te", TE},
		{"keep-alive", KeepAlive},
		{"proxy-connection", ProxyConnection},
		{"upgrade", Upgrade},
		{"http2-settings", HTTP2Settings},
		{"proxy-authenticate", ProxyAuthenticate},
		{"proxy-authorization", ProxyAuthorization},
		{"trailer", Trailer},
		{"expect", Expect},
		{"max-forwards", MaxForwards},
		{"forwarded", Forwarding},
		{"x-real-ip", Forwarding},
		{"x-client-ip", Forwarding},
		{"x-cluster-client-ip", Forwarding},
		{"true-client-ip", Forwarding},
		{"x-request-id", RequestID},
		{"proxy", Rerouting},
		{"x-original-url", Rerouting},
		{"x-original-uri", Rerouting},
		{"x-rewrite-url", Rerouting},
		{"referer", Referer},
		{"user-agent", UserAgent},
		{"content-type", ContentType},
		{"date", Date},
	} {
		t[len(k.name)] = append(t[len(k.name)], k)
	}
	return t
}()

const forwarded = "x-forwarded-"

// identify looks a name up, whatever its case.
func identify(name []byte) Name {
	if len(name) >= len(forwarded) && equal(name[:len(forwarded)], forwarded) {
		return Forwarding
	}
	if len(name) < len(names) {
		for i := range names[len(name)] {
			if k := &names[len(name)][i]; equal(name, k.name) {
				return k.id
			}
		}
	}
	return Other
}

// managed reports whether a name is one that the proxy decides about, so that
// nothing which resembles it may pass.
func (id Name) managed() bool { return Host <= id && id <= Rerouting }

// alias reports whether a name, whose bytes are of those classes together, only
// resembles one that the proxy decides about: many servers take other symbols,
// above all "_", for "-". What has a "_" is not passed on at all.
func alias(name []byte, classes uint8) bool {
	if classes&inScore != 0 {
		return true
	}
	if classes&inSymbol == 0 {
		return false
	}
	// An X-Forwarded- field is known by its begin, others are no longer than this.
	var plain [len("x-cluster-client-ip")]byte
	n := min(len(name), len(plain))
	for i, c := range name[:n] {
		if class[c]&inWord == 0 {
			c = '-'
		}
		plain[i] = c
	}
	return hasPrefix(plain[:n], forwarded) || n == len(name) && identify(plain[:n]).managed()
}

// hopByHop reports whether a field concerns one connection only.
func (id Name) hopByHop() bool { return Connection <= id && id <= ProxyAuthorization }

// mayTrail reports whether a field of that name may stand in a trailer section:
// it means nothing for framing, routing, authentication, caching or the content
// (RFC 9110, section 6.5.1).
func mayTrail(name []byte) bool {
	var classes uint8
	for _, c := range name {
		k := class[c] & inToken
		if k == 0 {
			return false
		}
		classes |= k
	}
	id := identify(name)
	if len(name) == 0 || id.managed() || id == Date || alias(name, classes) || hasPrefix(name, "content-") || hasPrefix(name, "if-") {
		return false
	}
	for _, n := range [...]string{
		"authorization", "www-authenticate", "cookie", "set-cookie", "range", "cache-control", "age", "expires", "location", "vary",
	} {
		if equal(name, n) {
			return false
		}
	}
	return true
}

func hasPrefix(p []byte, lower string) bool {
	return len(p) >= len(lower) && equal(p[:len(lower)], lower)
}
