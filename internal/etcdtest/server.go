// Package etcdtest runs real etcd processes for tests, and a TCP relay to put
// in front of them that can break the connection in the ways networks do.
//
//	s := etcdtest.Start(t)       // ready when it returns, ended with the test
//	s.Client().Put(ctx, "k", "v")
//	s.Kill(); s.Restart()        // kill -9; the same address and data again
//	r := etcdtest.NewRelay(t, s.Addr())
//	r.Blackhole(); r.Heal()
package etcdtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"muster/internal/freeport"
	"muster/internal/proctest"
)

// readyWithin is generous: two slow cores may build and test ten other things.
const readyWithin = 60 * time.Second

// RootPassword is the password of etcd's user root under [Auth].
const RootPassword = "root"

// A Server is one etcd process. Its methods fail the test themselves; they may
// be called from the test's goroutine only.
type Server struct {
	tb           testing.TB
	name         string
	dir          string
	client, peer string // host:port
	cluster      string // --initial-cluster
	opts         options
	tls          *tls.Config
	cmd          *exec.Cmd
	exited       chan struct{} // closed when cmd has ended; nil while none runs
	log          *logBuffer
	etcd         *clientv3.Client
}

// Start runs a cluster of one and returns when it answers.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	return Cluster(tb, 1, opts...)[0]
}

// Cluster runs n members and returns when all of them answer.
func Cluster(tb testing.TB, n int, opts ...Option) []*Server {
	tb.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	servers := make([]*Server, n)
	var members []string
	for i := range servers {
		s := &Server{tb: tb, name: fmt.Sprintf("m%d", i), dir: filepath.Join(tb.TempDir(), "data"), opts: o, log: new(logBuffer)}
		var err error
		if s.client, err = freeport.Addr(); err == nil {
			s.peer, err = freeport.Addr()
		}
		if err != nil {
			tb.Fatalf("etcdtest: no free port: %v", err)
		}
		if o.certs != nil {
			s.tls = o.certs.config(tb)
		}
		servers[i] = s
		members = append(members, s.name+"=http://"+s.peer)
	}
	for _, s := range servers {
		s.cluster = strings.Join(members, ",")
		tb.Cleanup(s.close)
		s.spawn()
	}
	for _, s := range servers {
		s.waitReady()
	}
	if o.user != "" {
		servers[0].enableAuth()
	}
	return servers
}

// Addr is where clients connect, host:port.
func (s *Server) Addr() string { return s.client }

// Client is a client of this member alone, made at the first call and closed
// with the test. It is root under [Auth].
func (s *Server) Client() *clientv3.Client {
	s.tb.Helper()
	if s.etcd == nil {
		user, password := "", ""
		if s.opts.user != "" {
			user, password = "root", RootPassword
		}
		s.etcd = s.newClient(user, password)
	}
	return s.etcd
}

func (s *Server) newClient(user, password string) *clientv3.Client {
	s.tb.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{s.url()},
		TLS:         s.tls,
		Username:    user,
		Password:    password,
		DialTimeout: readyWithin,
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			// Without it the first attempt has BaseDelay to hear from etcd, and a
			// busy one's connection is closed: "use of closed network connection".
			MinConnectTimeout: readyWithin,
		})},
	})
	if err != nil {
		s.tb.Fatalf("etcdtest: client of %s: %v", s.client, err)
	}
	return c
}

// Kill ends the process with SIGKILL and waits until it is gone. Its data stay.
func (s *Server) Kill() {
	if s.exited == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended by itself
	<-s.exited
	s.exited = nil
}

// Restart kills the process if it runs, starts it again at the same address
// with the data that are there, and waits until it answers.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	s.spawn()
	s.waitReady()
}

// Wipe kills the process and removes its data: Restart begins at revision 1,
// with the same cluster ID. It is for a cluster of one, without [Auth].
func (s *Server) Wipe() {
	s.tb.Helper()
	s.Kill()
	if err := os.RemoveAll(s.dir); err != nil {
		s.tb.Fatalf("etcdtest: %v", err)
	}
}

// Backup copies the data as they are now; the process is restarted for it. It is
// for a cluster of one.
func (s *Server) Backup() {
	s.tb.Helper()
	s.Kill()
	s.copyData(s.dir+".backup", s.dir)
	s.Restart()
}

// Restore kills the process and puts the data of Backup in place of those that
// are there: Restart begins with them.
func (s *Server) Restore() {
	s.tb.Helper()
	s.Kill()
	s.copyData(s.dir, s.dir+".backup")
}

func (s *Server) copyData(to, from string) {
	s.tb.Helper()
	err := os.RemoveAll(to)
	if err == nil {
		err = os.CopyFS(to, os.DirFS(from))
	}
	if err != nil {
		s.tb.Fatalf("etcdtest: %v", err)
	}
}

// Stop freezes the process (SIGSTOP): connections stay, nothing answers.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Cont ends what Stop began.
func (s *Server) Cont() { s.signal(syscall.SIGCONT) }

// IsLeader reports whether the member leads its cluster now.
func (s *Server) IsLeader() bool {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	resp, err := s.Client().Status(ctx, s.url())
	if err != nil {
		s.tb.Fatalf("etcdtest: status of %s: %v", s.client, err)
	}
	return resp.Leader == resp.Header.MemberId
}

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("etcdtest: %v to etcd %s: %v", sig, s.client, err)
	}
}

func (s *Server) close() {
	if s.etcd != nil {
		s.etcd.Close()
	}
	s.Kill()
}

func (s *Server) url() string {
	if s.tls != nil {
		return "https://" + s.client
	}
	return "http://" + s.client
}

func (s *Server) spawn() {
	s.tb.Helper()
	args := []string{
		"--name", s.name, "--data-dir", s.dir,
		"--listen-client-urls", s.url(), "--advertise-client-urls", s.url(),
		"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer,
		"--initial-cluster", s.cluster,
		"--log-level", "warn",
	}
	if s.opts.old {
		args = append(args, "--logger", "zap")
	} else {
		args = append(args, "--unsafe-no-fsync")
	}
	if !strings.Contains(s.cluster, ",") {
		// Alone it elects itself at once, and leases may be as short as 1 s.
		args = append(args, "--heartbeat-interval", "10", "--election-timeout", "100")
	}
	if c := s.opts.certs; c != nil {
		args = append(args, "--cert-file", c.Cert, "--key-file", c.Key)
		if s.opts.mutual {
			args = append(args, "--client-cert-auth", "--trusted-ca-file", c.CA)
		}
	}
	binary := ""
	if s.opts.old {
		binary = proctest.Need(s.tb, "etcd")
	} else {
		binary = Binary(s.tb)
	}
	s.cmd = exec.Command(binary, append(args, s.opts.flags...)...)
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = dieWithParent()
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatalf("etcdtest: %v", err)
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() {
		defer close(exited)
		_ = cmd.Wait() // killed, mostly
	}()
}

// waitReady returns when the member answers a linearizable read.
func (s *Server) waitReady() {
	s.tb.Helper()
	transport := &http.Transport{TLSClientConfig: s.tls, DisableKeepAlives: true}
	health := http.Client{Transport: transport, Timeout: 2 * time.Second}
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	for {
		resp, err := health.Get(s.url() + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("/health: %s", resp.Status)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-s.exited:
			s.tb.Fatalf("etcdtest: etcd %s ended: %v\n%s", s.client, s.cmd.ProcessState, s.log)
		case <-ctx.Done():
			s.tb.Fatalf("etcdtest: etcd %s is not ready after %v: %v\n%s", s.client, readyWithin, err, s.log)
		}
	}
}

// A logBuffer keeps the last part of what etcd wrote.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 1<<20 {
		l.buf.Reset()
	}
	return l.buf.Write(p)
}

// String is the end of it.
func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	const enough = 8 << 10
	text := l.buf.String()
	return text[max(0, len(text)-enough):]
}
