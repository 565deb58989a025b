package catalog

import (
	"fmt"
	"strings"
)

// A Route says which requests a service answers. Host is in lower case: exact,
// "*.suffix" for every name below suffix, or empty for any; a request's port is
// ignored. Path is "/" or "/elements" without a slash at its end; it matches
// whole elements, so "/api" matches /api and /api/users but not /apix.
type Route struct{ Host, Path string }

func (r Route) String() string { return r.Host + r.Path }

// ParseRoute reads [HOST]/PATH, such as "example.com/api", "*.example.com/" or
// "/admin".
func ParseRoute(text string) (Route, error) {
	host, path, ok := strings.Cut(text, "/")
	if !ok {
		return Route{}, fmt.Errorf("route %q: want [HOST]/PATH, such as %q", text, text+"/")
	}
	host = strings.ToLower(host)
	name := strings.TrimPrefix(host, "*.")
	if host != "" && (name == "" || strings.ContainsFunc(name, notInName) || strings.Contains(name, "..") || name[0] == '.') {
		return Route{}, fmt.Errorf("route %q: host %q: want a name, *.NAME or nothing, without a port", text, host)
	}
	path = "/" + strings.TrimRight(path, "/")
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '?' || c == '#' || c == '\\' {
			return Route{}, fmt.Errorf("route %q: byte %q in the path: want a path as in a URL", text, c)
		}
	}
	if strings.Contains(path, "//") {
		return Route{}, fmt.Errorf("route %q: empty element in the path", text)
	}
	return Route{host, path}, nil
}

func notInName(r rune) bool {
	return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_')
}
