// This file runs once per request.

package balance

import (
	"strings"

	"muster/catalog"
)

// A Table says which service answers a request. It never changes.
type Table struct {
	ready    bool
	routes   *Routes
	services []*Service
}

// Routes are the routes of a table, each to the number of a service. They never
// change, so tables with the same routes share them.
type Routes struct {
	hosts map[string]*paths // by exact host
	below map[string]*paths // "*.suffix", by ".suffix"
	any   *paths
}

// paths are the routes of one host.
type paths struct {
	longest int // bytes of the longest path
	service map[string]int
}

// A Target is a route, and where in the table's services its service stands.
type Target struct {
	catalog.Route
	Service int
}

// NewRoutes returns the routes of a table; of two equal ones the first wins.
func NewRoutes(targets []Target) *Routes {
	r := &Routes{hosts: make(map[string]*paths), below: make(map[string]*paths)}
	for _, t := range targets {
		p := r.paths(t.Host)
		if _, ok := p.service[t.Path]; !ok {
			p.service[t.Path] = t.Service
			p.longest = max(p.longest, len(t.Path))
		}
	}
	return r
}

func (r *Routes) paths(host string) *paths {
	if host == "" {
		if r.any == nil {
			r.any = &paths{service: make(map[string]int)}
		}
		return r.any
	}
	byHost := r.hosts
	if suffix, ok := strings.CutPrefix(host, "*"); ok {
		byHost, host = r.below, suffix
	}
	if byHost[host] == nil {
		byHost[host] = &paths{service: make(map[string]int)}
	}
	return byHost[host]
}

// NewTable returns a table of services, numbered as routes count them. One that
// is not ready answers every request with [NotReady].
func NewTable(ready bool, routes *Routes, services []*Service) *Table {
	return &Table{ready, routes, services}
}

// Ready is false before the first snapshot.
func (t *Table) Ready() bool { return t.ready }

// Match returns the service of the route with the longest host, and of those
// the one with the longest path, that matches; nil where none does. host is as
// in the request, its port and a dot at its end are ignored; path is escaped as
// in the request, without the query.
func (t *Table) Match(host, path string) *Service {
	if i, ok := t.routes.match(bareHost(host), plainPath(path)); ok {
		return t.services[i]
	}
	return nil
}

func (r *Routes) match(host, path string) (int, bool) {
	if i, ok := r.hosts[host].match(path); ok {
		return i, true
	}
	if len(r.below) > 0 {
		for dot := strings.IndexByte(host, '.'); dot >= 0; {
			host = host[dot:]
			if i, ok := r.below[host].match(path); ok {
				return i, true
			}
			host = host[1:]
			dot = strings.IndexByte(host, '.')
		}
	}
	return r.any.match(path)
}

// match finds the longest route that path is, or continues with a slash. It
// looks at no more elements than the longest route has bytes.
func (p *paths) match(path string) (int, bool) {
	if p == nil {
		return 0, false
	}
	end := len(path)
	if end > p.longest {
		end = strings.LastIndexByte(path[:p.longest+1], '/')
	}
	for end > 0 {
		if i, ok := p.service[path[:end]]; ok {
			return i, true
		}
		end = strings.LastIndexByte(path[:end], '/')
	}
	i, ok := p.service["/"]
	return i, ok
}

// bareHost is a host without port and last dot, in lower case.
func bareHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// plainPath decodes the escapes of unreserved characters and no others, so that
// what is compared with the routes means the same as what is forwarded: "%2F"
// is no slash.
func plainPath(path string) string {
	i := strings.IndexByte(path, '%')
	if i < 0 {
		return path
	}
	b := make([]byte, 0, len(path))
	for {
		b = append(b, path[:i]...)
		path = path[i:]
		if c, ok := unescape(path); ok && unreserved(c) {
			b = append(b, c)
			path = path[3:]
		} else {
			b = append(b, '%')
			path = path[1:]
		}
		if i = strings.IndexByte(path, '%'); i < 0 {
			return string(append(b, path...))
		}
	}
}

// unescape reads the escape that s begins with.
func unescape(s string) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	high, ok1 := hex(s[1])
	low, ok2 := hex(s[2])
	return high<<4 | low, ok1 && ok2
}

func hex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

func unreserved(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
