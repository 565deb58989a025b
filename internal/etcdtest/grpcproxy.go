package etcdtest

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"muster/internal/freeport"
)

// A GRPCProxy is etcd's own fan-out tier: many clients connect to it, and it
// has one watch at etcd for all that watch the same.
type GRPCProxy struct {
	addr string
	cmd  *exec.Cmd
}

// StartGRPCProxy runs "etcd grpc-proxy" before members until the test ends, and
// returns when it answers. Under [Auth] it knows no password of its own: each
// client's login is handed on.
func StartGRPCProxy(tb testing.TB, members []*Server, flags ...string) *GRPCProxy {
	tb.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		tb.Fatalf("etcdtest: no free port: %v", err)
	}
	var endpoints []string
	for _, s := range members {
		endpoints = append(endpoints, s.url())
	}
	log := new(logBuffer)
	p := &GRPCProxy{addr: addr, cmd: exec.Command(Binary(tb), append([]string{
		"grpc-proxy", "start", "--endpoints", strings.Join(endpoints, ","), "--listen-addr", addr,
		"--advertise-client-url", addr, "--data-dir", tb.TempDir(),
	}, flags...)...)}
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("etcdtest: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = p.cmd.Wait() // killed
	}()
	tb.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-exited
	})
	health := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	for {
		resp, err := health.Get("http://" + addr + "/proxy/health")
		if err == nil {
			resp.Body.Close()
			return p // it answers; whether etcd is healthy is etcd's to say
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-exited:
			tb.Fatalf("etcdtest: grpc-proxy %s ended: %v\n%s", addr, p.cmd.ProcessState, log)
		case <-ctx.Done():
			tb.Fatalf("etcdtest: grpc-proxy %s is not ready after %v: %v\n%s", addr, readyWithin, err, log)
		}
	}
}

// Addr is where clients connect, host:port.
func (p *GRPCProxy) Addr() string { return p.addr }

// Pid is its process.
func (p *GRPCProxy) Pid() int { return p.cmd.Process.Pid }

// Pid is the member's process, as long as it runs.
func (s *Server) Pid() int { return s.cmd.Process.Pid }
