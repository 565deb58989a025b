// This file runs once per request.

package balance

import "strings"

// Dropped reports whether a request's field of that name is not passed on, in
// the head or a trailer: it says something that only a trusted proxy may say,
// it makes other software look elsewhere than where the request was routed, or
// it resembles a field that the proxy sets (many servers take "_" for "-").
func Dropped(name string) bool {
	plain := true
	for i := range len(name) {
		if c := name[i]; c != '-' && !alphanumeric(c) {
			if c == '_' {
				return true
			}
			plain = false
		}
	}
	if !plain {
		name = strings.Map(dash, name)
	}
	if len(name) >= len(forwarded) && strings.EqualFold(name[:len(forwarded)], forwarded) {
		return true
	}
	for _, n := range droppedNames {
		if strings.EqualFold(name, n) {
			return true
		}
	}
	return !plain && (strings.EqualFold(name, "host") || strings.EqualFold(name, "content-length") ||
		strings.EqualFold(name, "transfer-encoding") || strings.EqualFold(name, "connection"))
}

const forwarded = "x-forwarded-"

var droppedNames = [...]string{
	"forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "x-request-id",
	"proxy", "x-original-url", "x-original-uri", "x-rewrite-url",
	"http2-settings",
}

func dash(r rune) rune {
	if r < 0x80 && alphanumeric(byte(r)) {
		return r
	}
	return '-'
}

func alphanumeric(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}
