// Package zktest runs real ZooKeeper servers for tests.
//
//	s := zktest.Start(t)              // ready when it returns, ended with the test
//	s.Put("/services/web/1", "v")     // with its parents, in one transaction
//	s.Kill(); s.Restart()             // kill -9; the same address and data again
package zktest

import (
	"errors"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

const jar = "/usr/share/java/zookeeper.jar" // as Debian has it

// netty is what a server with TLS needs, as Debian's libnetty-java has it.
const netty = "/usr/share/java/netty-handler.jar"

// A Server is one ZooKeeper process. Its methods fail the test themselves; they
// may be called from the test's goroutine only.
type Server struct {
	tb     testing.TB
	addr   string
	secure string // the address with TLS; empty without
	dir    string
	proc   *proctest.Proc
	client *zk.Conn
	ended  <-chan zk.Event // closed when client has
}

// Start runs a server and returns when it answers.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return start(tb, nil)
}

// StartTLS runs a server that also serves TLS, at SecureAddr, for clients whose
// certificate the CA has signed.
func StartTLS(tb testing.TB, certs etcdtest.Certs) *Server {
	tb.Helper()
	return start(tb, &certs)
}

func start(tb testing.TB, certs *etcdtest.Certs) *Server {
	tb.Helper()
	s := &Server{tb: tb, addr: proctest.FreeAddr(tb), dir: tb.TempDir()}
	_, port, _ := strings.Cut(s.addr, ":")
	var secure string
	if certs != nil {
		s.secure = proctest.FreeAddr(tb)
		secure = s.tls(*certs)
	}
	for name, text := range map[string]string{
		"zoo.cfg": "tickTime=500\ndataDir=" + s.dir + "/data\nclientPortAddress=127.0.0.1\nclientPort=" + port +
			"\nadmin.enableServer=false\n4lw.commands.whitelist=ruok,cons\nmaxClientCnxns=0\n" + secure,
		"log4j.properties": "log4j.rootLogger=WARN, CONSOLE\nlog4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender\n" +
			"log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout\nlog4j.appender.CONSOLE.layout.ConversionPattern=%d %p %m%n\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(s.close)
	s.Restart()
	return s
}

// tls is what is to be configured for it. ZooKeeper wants a certificate and its key
// in one file, and the endings of their names to say what they are.
func (s *Server) tls(certs etcdtest.Certs) string {
	s.tb.Helper()
	if _, err := os.Stat(netty); err != nil {
		proctest.Missing(s.tb, netty)
	}
	var pair []byte
	for _, file := range []string{certs.Cert, certs.Key} {
		text, err := os.ReadFile(file)
		if err != nil {
			s.tb.Fatal(err)
		}
		pair = append(pair, text...)
	}
	file := filepath.Join(s.dir, "server.pem")
	if err := os.WriteFile(file, pair, 0o600); err != nil {
		s.tb.Fatal(err)
	}
	_, port, _ := strings.Cut(s.secure, ":")
	return "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n" +
		"secureClientPortAddress=127.0.0.1\nsecureClientPort=" + port + "\nssl.clientAuth=need\n" +
		"ssl.keyStore.location=" + file + "\nssl.keyStore.type=PEM\n" +
		"ssl.trustStore.location=" + certs.CA + "\nssl.trustStore.type=PEM\n"
}

// Addr is where clients connect, host:port.
func (s *Server) Addr() string { return s.addr }

// SecureAddr is where they connect with TLS, host:port.
func (s *Server) SecureAddr() string { return s.secure }

// Kill ends the process with SIGKILL and waits until it is gone. Its data stay.
func (s *Server) Kill() {
	s.tb.Helper()
	s.proc.Signal(syscall.SIGKILL)
	s.proc.Wait()
}

// Restart starts the process again at the same address with the data that are
// there, and waits until it answers. It has to be killed before.
func (s *Server) Restart() {
	s.tb.Helper()
	java := proctest.Need(s.tb, "java")
	if _, err := os.Stat(jar); err != nil {
		s.tb.Skipf("needs zookeeper (scripts/packages installs it): %v", err)
	}
	classes := s.dir + ":" + jar
	if s.secure != "" {
		classes += ":" + strings.TrimSuffix(netty, "handler.jar") + "codec.jar:" + strings.TrimSuffix(netty, "handler.jar") + "resolver.jar"
	}
	s.proc = proctest.Start(s.tb, "zookeeper "+s.addr, nil, java,
		"-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dzookeeper.forceSync=no",
		"-cp", classes, "org.apache.zookeeper.server.ZooKeeperServerMain", s.dir+"/zoo.cfg")
	proctest.Eventually(s.tb, "zookeeper "+s.addr+" answers", func() bool { return s.command("ruok") == "imok" })
}

// Stop freezes the process (SIGSTOP): connections stay, nothing answers.
func (s *Server) Stop() { s.proc.Signal(syscall.SIGSTOP) }

// Cont ends what Stop began.
func (s *Server) Cont() { s.proc.Signal(syscall.SIGCONT) }

// Said reports whether the server has logged text.
func (s *Server) Said(text string) bool { return strings.Contains(s.proc.Output(), text) }

// Sessions is how many clients have one, but this server's own Client.
func (s *Server) Sessions() int {
	s.tb.Helper()
	n := strings.Count(s.command("cons"), "sid=0x")
	if s.client != nil && s.client.State() == zk.StateHasSession {
		n--
	}
	return n
}

// command is one of ZooKeeper's four letter words; "" where nobody answers.
func (s *Server) command(word string) string {
	conn, err := net.DialTimeout("tcp", s.addr, 5*time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second)) // one that starts may not answer at all
	if _, err := conn.Write([]byte(word)); err != nil {
		return ""
	}
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// Client is a plain client, made at the first call and closed with the test.
func (s *Server) Client() *zk.Conn {
	s.tb.Helper()
	if s.client == nil {
		var err error
		s.client, s.ended, err = zk.Connect([]string{s.addr}, 20*time.Second, zk.WithLogger(silent{}))
		if err != nil {
			s.tb.Fatalf("zktest: %v", err)
		}
	}
	return s.client
}

// Put makes or changes a node. Its parents are made in the same transaction.
func (s *Server) Put(key, value string) {
	s.tb.Helper()
	s.again("put "+key, func(c *zk.Conn) error {
		_, err := c.Set(key, []byte(value), -1)
		if !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		var ops []any
		for at := key; at != "/"; at = path.Dir(at) {
			there, _, err := c.Exists(at)
			if err != nil {
				return err
			}
			if there {
				break
			}
			made := &zk.CreateRequest{Path: at, Acl: zk.WorldACL(zk.PermAll)}
			if at == key {
				made.Data = []byte(value)
			}
			ops = append([]any{made}, ops...)
		}
		_, err = c.Multi(ops...)
		return err
	})
}

// Delete removes a node, if it is there, and its parents that become empty, in
// one transaction.
func (s *Server) Delete(key string) {
	s.tb.Helper()
	s.again("delete "+key, func(c *zk.Conn) error {
		var ops []any
		for at := key; at != "/"; at = path.Dir(at) {
			names, stat, err := c.Children(at)
			switch {
			case errors.Is(err, zk.ErrNoNode) && at == key:
				return nil
			case err != nil:
				return err
			}
			if at != key && (len(names) > 1 || stat.DataLength > 0) || at == key && len(names) > 0 {
				break
			}
			ops = append(ops, &zk.DeleteRequest{Path: at, Version: -1})
		}
		_, err := c.Multi(ops...)
		return err
	})
}

// again does what a server that just came back may refuse.
func (s *Server) again(what string, do func(*zk.Conn) error) {
	s.tb.Helper()
	var err error
	for deadline := time.Now().Add(proctest.Patience); time.Now().Before(deadline); {
		err = do(s.Client())
		if err == nil {
			return
		}
		if !errors.Is(err, zk.ErrConnectionClosed) && !errors.Is(err, zk.ErrNoServer) && !errors.Is(err, zk.ErrSessionExpired) && !errors.Is(err, zk.ErrSessionMoved) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.tb.Fatalf("zktest: %s: %v", what, err)
}

func (s *Server) close() {
	if s.client == nil {
		return
	}
	s.client.Close()
	for range s.ended {
		// until it has ended
	}
}

type silent struct{}

func (silent) Printf(string, ...any) {}
