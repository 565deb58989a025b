// Package redistest runs real Redis servers and sentinels for tests.
//
//	s := redistest.Start(t, redistest.Config{})   // ready when it returns, ended with the test
//	s.Do("SET", "/k", "v")
//	s.Kill(); s.Restart()                         // kill -9; the same address and data again
package redistest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// Config changes how a server is started.
type Config struct {
	Password string          // of requirepass
	Certs    *etcdtest.Certs // serves TLS only
	Mutual   bool            // asks for a client certificate too
	Flags    []string        // of redis-server; they win over what Start says
}

// A Server is one Redis process, with all keyspace notifications on. Its methods
// fail the test themselves; they may be called from the test's goroutine only.
type Server struct {
	tb    testing.TB
	conf  Config
	addr  string
	args  []string
	proc  *proctest.Proc
	admin redis.Conn
}

// Start runs a server and returns when it answers.
func Start(tb testing.TB, conf Config) *Server {
	tb.Helper()
	s := &Server{tb: tb, conf: conf, addr: proctest.FreeAddr(tb)}
	_, port, _ := strings.Cut(s.addr, ":")
	s.args = []string{
		"--bind", "127.0.0.1", "--dir", tb.TempDir(), "--save", "", "--appendonly", "yes", "--appendfsync", "no",
		"--notify-keyspace-events", "KA", "--repl-diskless-sync-delay", "0",
	}
	if c := conf.Certs; c != nil {
		mutual := "no"
		if conf.Mutual {
			mutual = "yes"
		}
		s.args = append(s.args, "--port", "0", "--tls-port", port, "--tls-cert-file", c.Cert, "--tls-key-file", c.Key,
			"--tls-ca-cert-file", c.CA, "--tls-auth-clients", mutual)
	} else {
		s.args = append(s.args, "--port", port)
	}
	if conf.Password != "" {
		s.args = append(s.args, "--requirepass", conf.Password)
	}
	s.args = append(s.args, conf.Flags...)
	tb.Cleanup(func() { s.forget() })
	s.Restart()
	return s
}

// Cluster runs n masters that share the keys, and returns when each of them knows
// all.
func Cluster(tb testing.TB, n int) []*Server {
	tb.Helper()
	const slots = 16384
	var all []*Server
	for i := range n {
		_, port, _ := strings.Cut(proctest.FreeAddr(tb), ":") // between the nodes
		s := Start(tb, Config{Flags: []string{"--cluster-enabled", "yes", "--cluster-port", port}})
		s.Do("CLUSTER", "ADDSLOTSRANGE", i*slots/n, (i+1)*slots/n-1)
		if i > 0 {
			host, client, _ := strings.Cut(s.addr, ":")
			all[0].Do("CLUSTER", "MEET", host, client, port)
		}
		all = append(all, s)
	}
	for _, s := range all {
		proctest.Eventually(tb, "redis "+s.addr+" knows the cluster", func() bool {
			info, err := redis.String(s.Do("CLUSTER", "INFO"), nil)
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", n))
		})
	}
	return all
}

// Addr is where clients connect, host:port.
func (s *Server) Addr() string { return s.addr }

// Kill ends the process with SIGKILL and waits until it is gone. Its data stay.
func (s *Server) Kill() {
	s.tb.Helper()
	s.forget()
	s.proc.Signal(syscall.SIGKILL)
	s.proc.Wait()
}

// Restart starts the process again at the same address with the data that are
// there, and waits until it answers. It has to be killed before.
func (s *Server) Restart() {
	s.tb.Helper()
	s.proc = proctest.Start(s.tb, "redis "+s.addr, nil, proctest.Need(s.tb, "redis-server"), s.args...)
	s.waitReady()
}

func (s *Server) waitReady() {
	s.tb.Helper()
	proctest.Eventually(s.tb, "redis "+s.addr+" answers", func() bool {
		conn, err := s.dial()
		if err != nil {
			return false
		}
		defer conn.Close()
		_, err = conn.Do("PING")
		return err == nil
	})
}

// Stop freezes the process (SIGSTOP): connections stay, nothing answers.
func (s *Server) Stop() { s.proc.Signal(syscall.SIGSTOP) }

// Cont ends what Stop began.
func (s *Server) Cont() { s.proc.Signal(syscall.SIGCONT) }

// Do sends a command, as the default user, and returns the answer.
func (s *Server) Do(command string, args ...any) any {
	s.tb.Helper()
	var reply any
	var err error
	for range 2 { // the connection may be of a server before
		if s.admin == nil {
			if s.admin, err = s.dial(); err != nil {
				s.tb.Fatalf("redistest: %s: %v", s.addr, err)
			}
		}
		if reply, err = s.admin.Do(command, args...); err == nil {
			return reply
		}
		s.forget()
	}
	s.tb.Fatalf("redistest: %s %q: %v", command, args, err)
	return nil
}

// Clients is how many connections there are of clients called name.
func (s *Server) Clients(name string) int {
	s.tb.Helper()
	list, err := redis.String(s.Do("CLIENT", "LIST"), nil)
	if err != nil {
		s.tb.Fatal(err)
	}
	return strings.Count(list, " name="+name+" ")
}

func (s *Server) forget() {
	if s.admin != nil {
		s.admin.Close()
		s.admin = nil
	}
}

func (s *Server) dial() (redis.Conn, error) {
	options := []redis.DialOption{
		redis.DialPassword(s.conf.Password), redis.DialConnectTimeout(5 * time.Second),
		redis.DialReadTimeout(proctest.Patience), redis.DialWriteTimeout(proctest.Patience),
	}
	if c := s.conf.Certs; c != nil {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, err
		}
		options = append(options, redis.DialUseTLS(true), redis.DialTLSConfig(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}))
	}
	return redis.Dial("tcp", s.addr, options...)
}

// Sentinel runs a sentinel that watches over master under that name, and makes a
// replica the master when it is gone for a second. It returns its address.
func Sentinel(tb testing.TB, name string, master *Server) string {
	tb.Helper()
	addr := proctest.FreeAddr(tb)
	_, port, _ := strings.Cut(addr, ":")
	host, masterPort, _ := net.SplitHostPort(master.addr)
	dir := tb.TempDir()
	text := fmt.Sprintf("port %[1]s\nbind 127.0.0.1\ndir %[2]s\nsentinel monitor %[3]s %[4]s %[5]s 1\n"+
		"sentinel down-after-milliseconds %[3]s 1000\nsentinel failover-timeout %[3]s 5000\n", port, dir, name, host, masterPort)
	if master.conf.Password != "" {
		text += fmt.Sprintf("sentinel auth-pass %s %s\n", name, master.conf.Password)
	}
	path := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, addr: addr}
	s.proc = proctest.Start(tb, "sentinel "+addr, nil, proctest.Need(tb, "redis-server"), path, "--sentinel")
	s.waitReady()
	return addr
}

// Replicas is how many replicas the sentinel knows of the master.
func Replicas(tb testing.TB, sentinel, master string) int {
	tb.Helper()
	s := &Server{tb: tb, addr: sentinel}
	defer s.forget()
	list, err := redis.Values(s.Do("SENTINEL", "replicas", master), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return len(list)
}
