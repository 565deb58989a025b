// Package awstest stands in for services of AWS in tests, where there is no real
// server to be had: DynamoDB is dynalite behind a [Server], the others are kept in
// memory. A Server checks the signature of every request as AWS does, and can
// throttle, deny, and let credentials expire.
//
//	s := awstest.Start(t, awstest.NewSSM())      // serving when it returns, ended with the test
//	s.Throttle(3)                             // the next three requests
//	s.Expire("AKIDEXAMPLE"); s.Renew(…)       // of the credentials
//	s.Stop(); s.Start()                       // the same address and keys again
package awstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/internal/proctest"
)

// Region is where all of it is.
const Region = "eu-test-1"

// Credentials are what requests are signed with.
type Credentials struct{ AccessKey, Secret, Token string }

// Default are the credentials that a Server accepts from the start.
var Default = Credentials{AccessKey: "AKIDEXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}

// Environ are the variables that lead the SDK to s with c, and nowhere else.
func Environ(s *Server, c Credentials) []string { return environ(s.URL(), c) }

func environ(url string, c Credentials) []string {
	env := []string{
		"AWS_ENDPOINT_URL=" + url, "AWS_REGION=" + Region, "AWS_DEFAULT_REGION=" + Region,
		"AWS_ACCESS_KEY_ID=" + c.AccessKey, "AWS_SECRET_ACCESS_KEY=" + c.Secret,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
	if c.Token != "" {
		env = append(env, "AWS_SESSION_TOKEN="+c.Token)
	}
	return env
}

// Setenv sets [Environ] for the test.
func Setenv(t testing.TB, s *Server, c Credentials) { setenv(t, Environ(s, c)) }

func setenv(t testing.TB, env []string) {
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

// An Error is what a service says when it refuses.
type Error struct {
	Code, Message string
	Status        int // 0 is 400
}

// A Service does what one request asks. op is as Scan, body its JSON.
type Service interface {
	// Name is the service's, as in signatures.
	Name() string
	// Serve returns what is to be sent as JSON, or an error.
	Serve(op string, body []byte, r *http.Request) (any, *Error)
}

// A Raw answer is sent as it is.
type Raw struct {
	Status int
	Header http.Header
	Body   []byte
}

// A Server is one service at one address. Its methods may be called from any
// goroutine, but those that fail the test.
type Server struct {
	tb      testing.TB
	service Service
	addr    string
	http    *http.Server

	mu       sync.Mutex // guards what follows
	accepted map[string]Credentials
	expired  map[string]bool
	throttle int
	denied   []string
	asked    map[string]int
	refusal  func(op string, body []byte) *Error
	conns    map[net.Conn]bool
	accepts  int
}

// Start serves service on loopback, to the [Default] credentials.
func Start(tb testing.TB, service Service) *Server {
	tb.Helper()
	s := &Server{
		tb: tb, service: service, addr: proctest.FreeAddr(tb),
		accepted: map[string]Credentials{Default.AccessKey: Default},
		expired:  make(map[string]bool), asked: make(map[string]int), conns: make(map[net.Conn]bool),
	}
	s.Start()
	tb.Cleanup(func() { s.Stop() })
	return s
}

// URL is where it is.
func (s *Server) URL() string { return "http://" + s.addr }

// Addr is its host:port.
func (s *Server) Addr() string { return s.addr }

// Stop hangs up and listens no more.
func (s *Server) Stop() { _ = s.http.Close() }

// Start listens again.
func (s *Server) Start() {
	s.tb.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ConnState: s.connState}
	go func(h *http.Server) { _ = h.Serve(l) }(s.http)
}

// Expire makes the credentials of accessKey too old.
func (s *Server) Expire(accessKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expired[accessKey] = true
}

// Accept accepts c from now on.
func (s *Server) Accept(c Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted[c.AccessKey] = c
	delete(s.expired, c.AccessKey)
}

// Throttle refuses the next n requests, all where n is negative.
func (s *Server) Throttle(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.throttle = n
}

// Deny refuses these operations, and no others.
func (s *Server) Deny(ops ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = ops
}

// Refuse answers requests with the error that refusal has for them, if it has one.
func (s *Server) Refuse(refusal func(op string, body []byte) *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = refusal
}

// FailOn is a refusal of the requests that have text in their body, for nothing
// that the client did.
func FailOn(text string) func(op string, body []byte) *Error {
	return func(_ string, body []byte) *Error {
		if !bytes.Contains(body, []byte(text)) {
			return nil
		}
		return &Error{Code: "InternalServerError", Message: "The request processing has failed", Status: http.StatusInternalServerError}
	}
}

// DenyOn is a refusal of the requests for op that have text in their body.
func DenyOn(op, text string) func(op string, body []byte) *Error {
	return func(asked string, body []byte) *Error {
		if asked != op || !bytes.Contains(body, []byte(text)) {
			return nil
		}
		return denied(op)
	}
}

func denied(op string) *Error {
	return &Error{Code: "AccessDeniedException", Message: "User: arn:aws:iam::123456789012:user/confd is not authorized to perform: " + op}
}

// Asked is how often op was asked for, "" all.
func (s *Server) Asked(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op != "" {
		return s.asked[op]
	}
	n := 0
	for _, some := range s.asked {
		n += some
	}
	return n
}

// Conns is how many connections are open, and how many there ever were.
func (s *Server) Conns() (open, ever int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.accepts
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = true
		s.accepts++
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if h, ok := s.service.(http.Handler); ok { // nothing is signed
		s.plain(h, w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	answer, wrong := any(nil), s.refuse(op, body, r)
	if wrong == nil {
		answer, wrong = s.service.Serve(op, body, r)
	}
	raw, ok := answer.(Raw)
	if !ok {
		raw = Raw{Status: http.StatusOK}
		if wrong != nil {
			raw.Status = max(wrong.Status, http.StatusBadRequest)
			answer = map[string]string{"__type": "com.amazon.coral.service#" + wrong.Code, "message": wrong.Message}
		}
		if raw.Body, err = json.Marshal(answer); err != nil {
			panic(err) // a mistake of ours
		}
	}
	w.Header().Set("X-Amzn-RequestId", rand.Text()) // a new one each time, as AWS's
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amz-Crc32", fmt.Sprint(crc32.ChecksumIEEE(raw.Body)))
	for name, values := range raw.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(raw.Status)
	_, _ = w.Write(raw.Body)
}

// plain serves what has no operations and no signatures.
func (s *Server) plain(h http.Handler, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked[r.URL.Path]++
	throttle := s.throttle != 0
	if s.throttle > 0 {
		s.throttle--
	}
	refusal := s.refusal
	s.mu.Unlock()
	switch {
	case throttle:
		http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
	case refusal != nil && refusal(r.URL.Path, nil) != nil:
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	default:
		h.ServeHTTP(w, r)
	}
}

// refuse says why the request is not let through to the service.
func (s *Server) refuse(op string, body []byte, r *http.Request) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[op]++
	c, err := verify(r, body, s.service.Name(), func(key string) (Credentials, bool) { c, ok := s.accepted[key]; return c, ok })
	switch {
	case err != nil:
		return err
	case s.expired[c.AccessKey]:
		return &Error{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}
	case s.throttle != 0:
		if s.throttle > 0 {
			s.throttle--
		}
		return &Error{Code: "ThrottlingException", Message: "Rate exceeded"}
	case slices.Contains(s.denied, op):
		return denied(s.service.Name() + ":" + op)
	case s.refusal != nil:
		return s.refusal(op, body)
	}
	return nil
}

// A Keeper is a service whose keys can be changed from outside.
type Keeper interface {
	Service
	Put(key, value string)
	Delete(key string)
}

// Contract is how [backendtest] reaches k behind s; open opens a store there.
func Contract(s *Server, k Keeper, open func() (backends.Store, error)) backendtest.Harness {
	return backendtest.Harness{
		Open: func(t testing.TB) backends.Store {
			store, err := open()
			if err != nil {
				t.Fatal(err)
			}
			return store
		},
		Put:    func(_ testing.TB, key, value string) { k.Put(key, value) },
		Delete: func(_ testing.TB, key string) { k.Delete(key) },
		Stop:   func(testing.TB) { s.Stop() },
		Start:  func(testing.TB) { s.Start() },
	}
}

// A Together watches together, which is held to the same contract.
type Together struct{ backends.Together }

// Watch is WatchTogether.
func (s Together) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.WatchTogether(ctx, prefixes)
}

// NothingGrows puts a thousand changes through a watch of prefix, and checks that
// connections, goroutines and memory stay as they were.
func NothingGrows(t *testing.T, s *Server, store backends.Store, prefix string, put func(key, value string)) {
	r := backendtest.NewReader(t, store, prefix)
	change := func(from, to int) {
		for i := from; i < to; i++ {
			put(prefix+"/"+fmt.Sprint(i%10), fmt.Sprint(i))
		}
		last := fmt.Sprint(to - 1)
		r.Until(last, func() bool { return r.Keys[prefix+"/"+fmt.Sprint((to-1)%10)] == last })
	}
	for i := range 10 {
		change(10*i, 10*(i+1))
	}
	goroutines, memory := runtime.NumGoroutine(), heap()
	for i := range 100 {
		change(100+10*i, 100+10*(i+1))
	}
	if n := runtime.NumGoroutine(); n > goroutines+5 {
		t.Errorf("%d goroutines became %d", goroutines, n)
	}
	if m := heap(); m > memory+2<<20 {
		t.Errorf("%d bytes became %d", memory, m)
	}
	if open, ever := s.Conns(); open > 1 || ever > 1 {
		t.Errorf("%d connections are open of %d, want 1 of 1", open, ever)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
