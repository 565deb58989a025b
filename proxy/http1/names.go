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
	ForwardedFor    // X-Forwarded-For
	ForwardedProto  // X-Forwarded-Proto
	ForwardedHost   // X-Forwarded-Host
	ForwardedPort   // X-Forwarded-Port: passed on from a trusted proxy
	ForwardedPrefix // X-Forwarded-Prefix: likewise
	RealIP          // X-Real-IP: likewise
	Forwarded       // RFC 7239
	Forwarding      // other X-Forwarded-*, X-Client-IP and the like: dropped from everybody
	RequestID

	// What makes servers look elsewhere than where the request was routed.
	Rerouting

	// Read here, and passed on.
	Referer
	UserAgent
	ContentType
	Date
	Via // written too, where Rules name us

	numNames
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
		{"x-forwarded-for", ForwardedFor},
		{"x-forwarded-proto", ForwardedProto},
		{"x-forwarded-host", ForwardedHost},
		{"x-forwarded-port", ForwardedPort},
		{"x-forwarded-prefix", ForwardedPrefix},
		{"forwarded", Forwarded},
		{"x-real-ip", RealIP},
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
		{"via", Via},
	} {
		t[len(k.name)] = append(t[len(k.name)], k)
	}
	return t
}()

const forwarded = "x-forwarded-"

// identify looks a name up, whatever its case.
func identify(name []byte) Name {
	if len(name) < len(names) {
		for i := range names[len(name)] {
			if k := &names[len(name)][i]; equal(name, k.name) {
				return k.id
			}
		}
	}
	if hasPrefix(name, forwarded) {
		return Forwarding
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
	return classes&inScore != 0 || classes&inSymbol != 0 && resembles(name)
}

// resembles reports whether a name is one that the proxy decides about, once its
// symbols are taken for "-".
func resembles(name []byte) bool {
	// An X-Forwarded- field is known by its begin, others are no longer than this.
	var dashed [len("x-cluster-client-ip")]byte
	n := min(len(name), len(dashed))
	for i, c := range name[:n] {
		dashed[i] = plain(c)
	}
	return hasPrefix(dashed[:n], forwarded) || n == len(name) && identify(dashed[:n]).managed()
}

// hopByHop reports whether a field concerns one connection only.
func (id Name) hopByHop() bool { return Connection <= id && id <= ProxyAuthorization }

// mayTrail reports whether a field of that name may stand in a trailer section:
// it means nothing for framing, routing, authentication, caching or the content
// (RFC 9110, section 6.5.1).
func mayTrail(name []byte, rules *Rules) bool {
	var classes uint8
	for _, c := range name {
		k := class[c] & inToken
		if k == 0 {
			return false
		}
		classes |= k
	}
	switch id := identify(name); {
	case len(name) == 0 || id.managed() || id == Date || id == Via:
		return false
	case classes&inScore != 0 && (rules == nil || rules.Underscores != AllowUnderscores):
		return false
	case classes != inWord && resembles(name), rules != nil && rules.lists(name):
		return false
	case hasPrefix(name, "content-") || hasPrefix(name, "if-"):
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
