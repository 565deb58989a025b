// This file runs once per request.

package portable

import (
	"net/http"
	"strings"
)

// rawPath is the path as the client sent it.
func rawPath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return path
	}
	return r.URL.EscapedPath()
}

// goodTarget reports whether everybody reads the target as the routes do: no
// bytes that a URL can't have, and no dot segments, which browsers and curl
// have removed before they ask. An endpoint that follows "/public/../admin"
// would answer what no route exposes.
func goodTarget(r *http.Request) bool {
	for i := range len(r.RequestURI) {
		if c := r.RequestURI[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	path := rawPath(r)
	if strings.IndexByte(path, '\\') >= 0 || strings.Contains(path, "%00") {
		return false
	}
	for strings.IndexByte(path, '.') >= 0 || strings.IndexByte(path, '%') >= 0 {
		segment, rest, more := strings.Cut(path, "/")
		if dots(segment) {
			return false
		}
		if !more {
			break
		}
		path = rest
	}
	return true
}

// dots reports whether a segment is one or two dots, escaped or not, with or
// without parameters.
func dots(segment string) bool {
	n := 0
	for segment != "" && segment[0] != ';' {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case len(segment) >= 3 && strings.EqualFold(segment[:3], "%2e"):
			segment = segment[3:]
		default:
			return false
		}
		n++
	}
	return n == 1 || n == 2
}
