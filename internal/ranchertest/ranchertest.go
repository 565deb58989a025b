// Package ranchertest is a metadata service of Rancher 1.x for tests. There is no
// package of the real one; this one answers as its README says, and its source
// (github.com/rancher/rancher-metadata) where that is silent:
//
//   - GET /VERSION/PATH is a part of the answers for the client's address, else of
//     the "default" ones: as JSON where that is asked for, else as text, an object
//     as its names. "latest" is there even where no answers say so. Members of lists
//     are found by place and by name, names in lower case too.
//   - What is not there is 404, in the form that was asked for.
//   - ?wait=true&value=V[&maxWait=SECONDS] waits until the value is another one.
//   - Each version of the answers has the same "version", another one at each
//     change and each start.
//   - POST /v1/reload, at another address, reads the answers from their file.
//
// A server is ready when Start returns, and ends with the test.
package ranchertest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/proctest"
)

// Config changes how a server answers.
type Config struct {
	File      string // of the answers, JSON; read at the start, if it is there, and when it is reloaded
	NoVersion bool   // answers have no "version", as those of the first services
	NoWait    bool   // nor does it wait
}

// A Server is a metadata service. Its methods fail the test themselves.
type Server struct {
	tb           testing.TB
	conf         Config
	addr, reload string

	mu      sync.Mutex                // guards what follows
	answers map[string]map[string]any // by version and client
	version string
	changed chan struct{} // closed and replaced at each change
	asked   map[string]int
	conns   map[net.Conn]struct{}
	waiting int
	refuse  int // a status; 0 is none
	running []*http.Server
	wg      sync.WaitGroup
}

// Start runs a server.
func Start(tb testing.TB, conf Config) *Server {
	tb.Helper()
	s := &Server{
		tb: tb, conf: conf, addr: proctest.FreeAddr(tb), reload: proctest.FreeAddr(tb), changed: make(chan struct{}),
		asked: make(map[string]int), conns: make(map[net.Conn]struct{}),
		answers: map[string]map[string]any{"latest": {"default": map[string]any{}}},
	}
	if _, err := os.Stat(conf.File); err == nil {
		if err := s.load(); err != nil {
			tb.Fatalf("ranchertest: %v", err)
		}
	}
	tb.Cleanup(s.Stop)
	s.Start()
	return s
}

// Addr is where clients ask, host:port.
func (s *Server) Addr() string { return s.addr }

// ReloadAddr is where the answers are reloaded, host:port.
func (s *Server) ReloadAddr() string { return s.reload }

// File is where the answers are read from.
func (s *Server) File() string { return s.conf.File }

// Start makes a server that was stopped answer again, with what it knew.
func (s *Server) Start() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change()
	admin := http.NewServeMux()
	admin.HandleFunc("POST /v1/reload", s.serveReload)
	for addr, handler := range map[string]http.Handler{s.addr: http.HandlerFunc(s.serve), s.reload: admin} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			s.tb.Fatalf("ranchertest: %v", err)
		}
		server := &http.Server{Handler: handler}
		if addr == s.addr {
			server.ConnState = s.state
		}
		s.running = append(s.running, server)
		s.wg.Go(func() { _ = server.Serve(l) })
	}
}

// Stop cuts all connections and refuses new ones.
func (s *Server) Stop() {
	s.mu.Lock()
	running := s.running
	s.running = nil
	s.mu.Unlock()
	for _, server := range running {
		_ = server.Close()
	}
	s.wg.Wait()
}

// Fail makes every answer one of that status; 0 ends it.
func (s *Server) Fail(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = status
}

// Forget makes it know nothing, as one that has just started and not yet asked
// Rancher.
func (s *Server) Forget() { s.Replace(make(map[string]map[string]any)) }

// Replace makes answers what it knows: by version, and then by client or "default".
func (s *Server) Replace(answers map[string]map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = answers
	s.change()
}

// Put makes or changes the value at a path, /VERSION/…, of the default answers,
// with the objects on the way.
func (s *Server) Put(path string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, rest := split(path)
	if s.answers[version] == nil {
		s.answers[version] = map[string]any{"default": map[string]any{}}
	}
	s.answers[version]["default"] = with(s.answers[version]["default"], rest, value)
	s.change()
}

// Delete removes what is at a path, and the objects on the way that are empty then.
func (s *Server) Delete(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, rest := split(path)
	left, _ := without(s.answers[version]["default"], rest).(map[string]any)
	if left == nil {
		left = map[string]any{}
	}
	s.answers[version]["default"] = left
	s.change()
}

// Asked is how often was asked for a path, without its query.
func (s *Server) Asked(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

// Waiting is how many requests wait for a change.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// Conns is how many connections there are.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) state(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	}
}

// change gives what is known another version.
func (s *Server) change() {
	s.version = fmt.Sprintf("%08x-%08x", rand.Uint32(), rand.Uint32())
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) load() error {
	text, err := os.ReadFile(s.conf.File)
	if err != nil {
		return err
	}
	var answers map[string]map[string]any
	if err := json.Unmarshal(text, &answers); err != nil {
		return fmt.Errorf("%s: %w", s.conf.File, err)
	}
	s.Replace(answers)
	return nil
}

func (s *Server) serveReload(w http.ResponseWriter, _ *http.Request) {
	if err := s.load(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, "OK")
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked[r.URL.Path]++
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != 0 {
		s.fail(w, r, "refused", refuse)
		return
	}
	query := r.URL.Query()
	if query.Get("wait") == "true" && query.Has("value") && !s.conf.NoWait {
		s.wait(r, query)
	}
	value, ok := s.find(r)
	if !ok {
		s.fail(w, r, "Not found", http.StatusNotFound)
		return
	}
	if !wantsJSON(r) {
		fmt.Fprint(w, asText(value))
		return
	}
	_ = json.NewEncoder(w).Encode(value)
}

// wait returns when the value is another one, or after a minute, or as it is asked.
func (s *Server) wait(r *http.Request, query url.Values) {
	seconds, _ := strconv.Atoi(query.Get("maxWait"))
	late := time.After(time.Duration(cmp.Or(min(seconds, 120), 60)) * time.Second)
	s.mu.Lock()
	s.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if value, ok := s.find(r); ok && fmt.Sprint(value) != query.Get("value") {
			return
		}
		select {
		case <-changed:
		case <-late:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, message string, status int) {
	if wantsJSON(r) {
		text, _ := json.Marshal(map[string]any{"code": status, "message": message, "type": "error"})
		message = string(text)
	}
	http.Error(w, message, status)
}

func wantsJSON(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "json") }

// find is the value that r asks for.
func (s *Server) find(r *http.Request) (any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	segments := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i, segment := range segments {
		segments[i], _ = url.QueryUnescape(segment)
	}
	version := segments[0]
	if version == "" {
		versions := map[string]any{"latest": "/latest"}
		for name := range s.answers {
			versions[name] = "/" + name
		}
		return versions, true
	}
	all, ok := s.answers[version]
	if !ok && version == "latest" && len(s.answers) > 0 {
		all, ok = s.answers[slices.Max(slices.Collect(maps.Keys(s.answers)))], true
	}
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	mine, there := all[client]
	if !there {
		mine, there = all["default"]
	}
	if !ok || !there {
		return nil, false
	}
	if object, ok := mine.(map[string]any); ok && !s.conf.NoVersion {
		object = maps.Clone(object)
		object["version"] = s.version
		mine = object
	}
	value, ok := lookup(mine, segments[1:])
	if !ok {
		value, ok = lookup(mine, strings.Split(strings.ToLower(strings.Join(segments[1:], "\x00")), "\x00"))
	}
	return value, ok
}

func lookup(value any, path []string) (any, bool) {
	for _, name := range path {
		switch v := value.(type) {
		case map[string]any:
			var ok bool
			if value, ok = v[name]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil {
				i = slices.IndexFunc(v, func(m any) bool {
					object, _ := m.(map[string]any)
					return object["name"] == name || object["uuid"] == name
				})
			}
			if i < 0 || i >= len(v) {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}

// asText is a value as who asks for no other form gets it.
func asText(value any) string {
	var lines []string
	line := func(name string, member any) {
		switch member.(type) {
		case map[string]any, []any:
			name += "/"
		}
		lines = append(lines, name+"\n")
	}
	switch v := value.(type) {
	case nil:
		return ""
	case map[string]any:
		for name, member := range v {
			line(url.QueryEscape(name), member)
		}
		slices.Sort(lines)
	case []any:
		for i, member := range v {
			object, _ := member.(map[string]any)
			if name, ok := object["name"].(string); ok {
				lines = append(lines, fmt.Sprintf("%d=%s\n", i, url.QueryEscape(name)))
				continue
			}
			line(strconv.Itoa(i), member)
		}
	default:
		return fmt.Sprint(v)
	}
	return strings.Join(lines, "")
}

func split(path string) (version string, rest []string) {
	elements := strings.Split(strings.Trim(path, "/"), "/")
	return elements[0], elements[1:]
}

// with is a copy of the object at with value at path.
func with(at any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	object, _ := at.(map[string]any)
	object = maps.Clone(object)
	if object == nil {
		object = make(map[string]any)
	}
	object[path[0]] = with(object[path[0]], path[1:], value)
	return object
}

// without is a copy of the object at without what is at path; nil where nothing is
// left.
func without(at any, path []string) any {
	if len(path) == 0 {
		return nil
	}
	object, ok := at.(map[string]any)
	if !ok {
		return at
	}
	object = maps.Clone(object)
	if left := without(object[path[0]], path[1:]); left == nil {
		delete(object, path[0])
	} else {
		object[path[0]] = left
	}
	if len(object) == 0 {
		return nil
	}
	return object
}
