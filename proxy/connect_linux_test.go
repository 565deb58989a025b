package proxy_test

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/internal/testserver"
	"muster/proxy"
)

// fullBacklog is an address that answers no connection attempt: its backlog is
// full and nobody accepts.
func fullBacklog(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
	c, err := net.Dial("tcp", addr) // the one that fits
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return addr
}

// A connection attempt that nobody answers takes the connect timeout, then the
// next endpoint.
func TestConnectTimeout(t *testing.T) {
	full := fullBacklog(t)
	plan := sole(endpoint("full", full))
	plan.Services[0].Timeout.Connect = 100 * time.Millisecond
	p, addr := start(t, proxy.Config{}, plan)
	c := client(t)
	res, _ := do(t, c, "GET", "http://"+addr+"/", nil)
	if res.StatusCode != 504 || proxyError(res) != "connection_timeout" {
		t.Errorf("status %d, error %q, want 504 and connection_timeout", res.StatusCode, proxyError(res))
	}
	a := testserver.New(t, "a")
	next := sole(endpoint("full", full), endpoint("a", a.Addr))
	next.Services[0].Timeout.Connect = 100 * time.Millisecond
	next.Listeners = plan.Listeners
	p.Update(next)
	for range 5 {
		if res, _ := do(t, c, "POST", "http://"+addr+"/", strings.NewReader("x")); res.StatusCode != 200 {
			t.Errorf("status %d, want 200 from the other", res.StatusCode)
		}
	}
}
