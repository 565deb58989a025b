package backends

import "strings"

// Under reports whether key is prefix itself or lies below prefix + "/". The
// prefixes "" and "/" hold every key; a trailing slash changes nothing.
func Under(prefix, key string) bool {
	prefix = strings.TrimRight(prefix, "/")
	rest, ok := strings.CutPrefix(key, prefix)
	return ok && (prefix == "" || rest == "" || rest[0] == '/')
}

// HasPrefix is the other rule of matching: by string, not by element, so that
// "/web" holds "/webdav" too. confd reads some of its stores like that (env,
// file), and where it is the one to replace they are opened with this rule.
func HasPrefix(prefix, key string) bool { return strings.HasPrefix(key, prefix) }

// UnderAny reports whether key matches one of prefixes by the rule match,
// which is [Under] where it is nil. No prefixes match nothing.
func UnderAny(match func(prefix, key string) bool, prefixes []string, key string) bool {
	if match == nil {
		match = Under
	}
	for _, p := range prefixes {
		if match(p, key) {
			return true
		}
	}
	return false
}

// Outermost returns the prefixes that lie below no other one, each once, by
// [Under].
func Outermost(prefixes []string) (outer []string) {
	for i, p := range prefixes {
		inner := false
		for j, other := range prefixes {
			same := Under(other, p) && Under(p, other)
			inner = inner || j != i && Under(other, p) && (!same || j < i)
		}
		if !inner {
			outer = append(outer, p)
		}
	}
	return outer
}
