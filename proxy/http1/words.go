package http1

// IsToken reports whether s is a token (RFC 9110, section 5.6.2), as names of
// fields are.
func IsToken(s string) bool { return isToken([]byte(s)) }

// IsHost reports whether s may stand in Host: a host, and perhaps a port.
func IsHost(s string) bool { return goodHost([]byte(s)) }

// IsOurs reports whether the proxy decides itself what becomes of a field of that
// name, whatever [Rules] drop.
func IsOurs(name string) bool {
	id := identify([]byte(name))
	return id.managed() && id != Rerouting
}
