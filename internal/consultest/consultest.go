// Package consultest runs real Consul servers for tests: agents that are a cluster
// of one. scripts/servers builds them.
//
//	s := consultest.Start(t, consultest.Config{})   // ready when it returns, ended with the test
//	s.Put("services/web/1", "v")
//	s.Kill(); s.Restart()                           // kill -9; the same address and data again
package consultest

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// Master is the token that may do everything, where Config.ACL is set.
const Master = "6d757374-6572-4000-8000-000000000000"

// Config changes how a server is started.
type Config struct {
	ACL     bool            // without a token nothing is allowed
	KeyList bool            // with ACL: lists need a right of their own
	Certs   *etcdtest.Certs // Addr serves TLS, and asks for a client certificate
}

// A Server is one Consul process. Its methods fail the test themselves; they may
// be called from the test's goroutine only.
type Server struct {
	tb     testing.TB
	addr   string
	admin  string // the address for Client, which speaks plain HTTP
	path   string // of the program: a test may change its folder
	file   string
	proc   *proctest.Proc
	client *api.Client
	http   *http.Transport
}

// Start runs a server and returns when it answers.
func Start(tb testing.TB, conf Config) *Server {
	tb.Helper()
	s := &Server{tb: tb, path: proctest.Server(tb, "consul"), addr: proctest.FreeAddr(tb), http: &http.Transport{}}
	s.admin = s.addr
	dir := tb.TempDir()
	port := func(addr string) int {
		_, text, _ := strings.Cut(addr, ":")
		n, _ := strconv.Atoi(text)
		return n
	}
	ports := map[string]int{
		"http": port(s.addr), "server": port(proctest.FreeAddr(tb)), "serf_lan": port(proctest.FreeAddr(tb)),
		"serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1,
	}
	settings := map[string]any{
		"node_name": "test", "server": true, "bootstrap": true, "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
		"data_dir": filepath.Join(dir, "data"), "log_level": "warn", "disable_update_check": true,
		"performance": map[string]any{"raft_multiplier": 1, "leave_drain_time": "1ms"}, "connect": map[string]any{"enabled": false},
		"limits": map[string]any{"http_max_conns_per_client": 1000}, "ports": ports,
	}
	if c := conf.Certs; c != nil {
		s.admin = proctest.FreeAddr(tb)
		ports["http"], ports["https"] = port(s.admin), port(s.addr)
		settings["tls"] = map[string]any{
			"defaults": map[string]any{"ca_file": c.CA, "cert_file": c.Cert, "key_file": c.Key},
			"https":    map[string]any{"verify_incoming": true},
		}
	}
	if conf.ACL {
		settings["acl"] = map[string]any{
			"enabled": true, "default_policy": "deny", "enable_key_list_policy": conf.KeyList,
			"tokens": map[string]any{"initial_management": Master, "agent": Master},
		}
	}
	text, err := json.Marshal(settings)
	if err != nil {
		tb.Fatal(err)
	}
	s.file = filepath.Join(dir, "consul.json")
	if err := os.WriteFile(s.file, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	s.client, err = api.NewClient(&api.Config{Address: s.admin, Scheme: "http", Token: Master, HttpClient: &http.Client{Transport: s.http}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.http.CloseIdleConnections)
	s.Restart()
	return s
}

// Addr is where clients connect, host:port.
func (s *Server) Addr() string { return s.addr }

// Kill ends the process with SIGKILL and waits until it is gone. Its data stay.
func (s *Server) Kill() {
	s.tb.Helper()
	s.proc.Signal(syscall.SIGKILL)
	s.proc.Wait()
	s.http.CloseIdleConnections()
}

// Restart starts the process again at the same address with the data that are
// there, and waits until it answers. It has to be killed before.
func (s *Server) Restart() {
	s.tb.Helper()
	s.proc = proctest.Start(s.tb, "consul "+s.addr, nil, s.path, "-config-file", s.file)
	proctest.Eventually(s.tb, "consul "+s.addr+" has a leader", func() bool {
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err != nil {
			return false
		}
		_ = conn.Close()
		_, _, err = s.client.KV().Get("none", &api.QueryOptions{RequireConsistent: true})
		return err == nil
	})
}

// Stop freezes the process (SIGSTOP): connections stay, nothing answers.
func (s *Server) Stop() { s.proc.Signal(syscall.SIGSTOP) }

// Cont ends what Stop began.
func (s *Server) Cont() { s.proc.Signal(syscall.SIGCONT) }

// Client may do everything.
func (s *Server) Client() *api.Client { return s.client }

// Put makes or changes a key, as Consul has it: without a slash in front.
func (s *Server) Put(key, value string) {
	s.tb.Helper()
	s.again("put "+key, func() error {
		_, err := s.client.KV().Put(&api.KVPair{Key: key, Value: []byte(value)}, nil)
		return err
	})
}

// Delete removes a key, if it is there.
func (s *Server) Delete(key string) {
	s.tb.Helper()
	s.again("delete "+key, func() error {
		_, err := s.client.KV().Delete(key, nil)
		return err
	})
}

// Token makes a token with rules, in Consul's language, and returns its secret.
func (s *Server) Token(rules string) string {
	s.tb.Helper()
	var secret string
	s.again("token", func() error {
		name := "p" + strconv.FormatInt(time.Now().UnixNano(), 10)
		policy, _, err := s.client.ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil)
		if err != nil {
			return err
		}
		token, _, err := s.client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
		if err == nil {
			secret = token.SecretID
		}
		return err
	})
	return secret
}

// Revoke deletes a token that Token made.
func (s *Server) Revoke(secret string) {
	s.tb.Helper()
	s.again("revoke", func() error {
		token, _, err := s.client.ACL().TokenReadSelf(&api.QueryOptions{Token: secret})
		if err == nil {
			_, err = s.client.ACL().TokenDelete(token.AccessorID, nil)
		}
		return err
	})
}

// again does what a server that just came back may refuse.
func (s *Server) again(what string, do func() error) {
	s.tb.Helper()
	var err error
	for deadline := time.Now().Add(proctest.Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	s.tb.Fatalf("consultest: %s: %v", what, err)
}
