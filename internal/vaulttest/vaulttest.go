// Package vaulttest runs real Vault servers for tests. scripts/servers builds
// them.
//
//	s := vaulttest.Start(t, vaulttest.Config{})    // unsealed, with kv1/ and kv2/
//	s.Put("kv2/web/db", map[string]any{"user": "u"})
//	s.Kill(); s.Restart()                          // kill -9; the same address and data again
package vaulttest

import (
	"crypto/tls"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// Config changes how a server is started.
type Config struct {
	Certs *etcdtest.Certs // TLS
}

// A Server is one Vault process. Its methods fail the test themselves; they may be
// called from the test's goroutine only.
type Server struct {
	tb     testing.TB
	addr   string
	path   string
	args   []string
	proc   *proctest.Proc
	client *api.Client
	http   *http.Transport
	unseal string
	root   string
	two    map[string]bool // mounts of version 2
}

// Start runs a server with the engines kv1 and kv2, and returns when it answers.
func Start(tb testing.TB, conf Config) *Server {
	tb.Helper()
	s := &Server{tb: tb, path: proctest.Server(tb, "vault"), addr: proctest.FreeAddr(tb), two: make(map[string]bool)}
	s.args = []string{"-addr", s.addr, "-data", filepath.Join(tb.TempDir(), "data")}
	scheme := "http"
	s.http = &http.Transport{}
	if c := conf.Certs; c != nil {
		s.args = append(s.args, "-cert", c.Cert, "-key", c.Key)
		scheme = "https"
		s.http.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	var err error
	s.client, err = api.NewClient(&api.Config{Address: scheme + "://" + s.addr, HttpClient: &http.Client{Transport: s.http}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.http.CloseIdleConnections)
	s.start()
	s.again("init", func() error {
		made, err := s.client.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
		if err == nil {
			s.unseal, s.root = made.KeysB64[0], made.RootToken
		}
		return err
	})
	s.client.SetToken(s.root)
	s.Unseal()
	s.Mount("kv1", "1")
	s.Mount("kv2", "2")
	return s
}

// Addr is where clients connect, host:port.
func (s *Server) Addr() string { return s.addr }

// Root is the token that may do everything.
func (s *Server) Root() string { return s.root }

// Client may do everything.
func (s *Server) Client() *api.Client { return s.client }

// Kill ends the process with SIGKILL and waits until it is gone. Its data stay.
func (s *Server) Kill() {
	s.tb.Helper()
	s.proc.Signal(syscall.SIGKILL)
	s.proc.Wait()
	s.http.CloseIdleConnections()
}

// Restart starts the process again at the same address with the data that are
// there, and unseals it. It has to be killed before.
func (s *Server) Restart() {
	s.tb.Helper()
	s.start()
	s.Unseal()
}

func (s *Server) start() {
	s.tb.Helper()
	s.proc = proctest.Start(s.tb, "vault "+s.addr, nil, s.path, s.args...)
	s.again("answers", func() error {
		_, err := s.client.Sys().SealStatus()
		return err
	})
}

// Seal makes it refuse everything until Unseal.
func (s *Server) Seal() {
	s.tb.Helper()
	s.again("seal", func() error { return s.client.Sys().Seal() })
}

// Unseal ends what Seal, or a start, began.
func (s *Server) Unseal() {
	s.tb.Helper()
	s.again("unseal", func() error {
		_, err := s.client.Sys().Unseal(s.unseal)
		return err
	})
	s.again("is active", func() error { // not at once after it is unsealed
		_, err := s.client.Auth().Token().LookupSelf()
		return err
	})
}

// Stop freezes the process (SIGSTOP): connections stay, nothing answers.
func (s *Server) Stop() { s.proc.Signal(syscall.SIGSTOP) }

// Cont ends what Stop began.
func (s *Server) Cont() { s.proc.Signal(syscall.SIGCONT) }

// Mount mounts a KV engine of version "1" or "2".
func (s *Server) Mount(at, version string) {
	s.tb.Helper()
	s.two[at] = version == "2"
	s.again("mount "+at, func() error {
		return s.client.Sys().Mount(at, &api.MountInput{Type: "kv", Options: map[string]string{"version": version}})
	})
	// One of version 2 upgrades itself first.
	s.Put(at+"/ready", map[string]any{"value": "x"})
	s.Delete(at + "/ready")
}

// Unmount takes an engine away, with its secrets.
func (s *Server) Unmount(at string) {
	s.tb.Helper()
	s.again("unmount "+at, func() error { return s.client.Sys().Unmount(at) })
}

// at is where Vault has a secret of MOUNT/NAME, by what it is asked for; two says
// that its engine is of version 2.
func (s *Server) at(secret, kind string) (path string, two bool) {
	for mount, two := range s.two {
		if name, ok := strings.CutPrefix(secret, mount+"/"); ok && two {
			return mount + "/" + kind + "/" + name, true
		}
	}
	return secret, false
}

// Put writes a secret, MOUNT/NAME, whatever the engine's version.
func (s *Server) Put(secret string, data map[string]any) {
	s.tb.Helper()
	path, two := s.at(secret, "data")
	if two {
		data = map[string]any{"data": data}
	}
	s.Write(path, data)
}

// Delete removes a secret with all its versions.
func (s *Server) Delete(secret string) {
	s.tb.Helper()
	path, _ := s.at(secret, "metadata")
	s.again("delete "+secret, func() error {
		_, err := s.client.Logical().Delete(path)
		return err
	})
}

// Write writes to any of Vault's paths.
func (s *Server) Write(path string, data map[string]any) *api.Secret {
	s.tb.Helper()
	var answer *api.Secret
	s.again("write "+path, func() (err error) {
		answer, err = s.client.Logical().Write(path, data)
		return err
	})
	return answer
}

// Policy makes or changes a policy, in Vault's language.
func (s *Server) Policy(name, rules string) {
	s.tb.Helper()
	s.again("policy "+name, func() error { return s.client.Sys().PutPolicy(name, rules) })
}

// Token makes a token with a policy of that name, that lives so long.
func (s *Server) Token(policy, ttl string) string {
	s.tb.Helper()
	secret := s.Write("auth/token/create", map[string]any{
		"policies": []string{policy}, "ttl": ttl, "explicit_max_ttl": "", "no_parent": true,
	})
	return secret.Auth.ClientToken
}

// Revoke ends a token.
func (s *Server) Revoke(token string) {
	s.tb.Helper()
	s.Write("auth/token/revoke", map[string]any{"token": token})
}

// again does what a server that just came back may refuse.
func (s *Server) again(what string, do func() error) {
	s.tb.Helper()
	var err error
	for deadline := time.Now().Add(proctest.Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err = do()
		if said, ok := errors.AsType[*api.ResponseError](err); err == nil || ok && said.StatusCode == http.StatusForbidden {
			break
		}
	}
	if err != nil {
		s.tb.Fatalf("vaulttest: %s: %v", what, err)
	}
}
