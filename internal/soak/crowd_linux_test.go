package soak_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/internal/proctest"
	"muster/internal/testserver"
)

// patient has times that no test reaches.
const patient = `
[[listener]]
bind    = %q
timeout = { header = "10m", body = "10m", idle = "10m" }
[log]
access = "off"
[service.web]
endpoints = [%q]
`

// start runs muster for one origin with at most so many descriptors, 0: no
// matter how many.
func start(t *testing.T, origin string, descriptors int) (p *proctest.Proc, addr, admin string) {
	t.Helper()
	addr, admin = proctest.FreeAddr(t), proctest.FreeAddr(t)
	path := filepath.Join(t.TempDir(), "muster.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, patient, addr, origin), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		proctest.Build(t, "muster/cmd/muster"),
		"proxy", "-store", "none", "-config", path, "-default", "web", "-admin", admin, "-state", t.TempDir(),
	}
	if descriptors > 0 {
		args = append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, descriptors), "sh"}, args...)
	}
	p = proctest.Start(t, "muster", nil, args[0], args[1:]...)
	proctest.Eventually(t, "muster is ready", func() bool { return status("http://"+admin+"/readyz") == http.StatusOK })
	return p, addr, admin
}

// status is that of the answer to a request on a connection of its own, 0 if
// there is none.
func status(url string) int {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := c.Get(url)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0
	}
	return res.StatusCode
}

// A crowd that does nothing, or nothing in time, costs little memory, and others
// are served beside it.
func TestIdleAndSlowClients(t *testing.T) {
	const clients = 10_000
	o := testserver.New(t, "web")
	for _, c := range []struct{ name, sends, gets string }{
		{"idle", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200 OK"},
		{"slow head", "GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: ", ""},
		{"slow head behind a request", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET", "HTTP/1.1 200 OK"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, addr, admin := start(t, o.Addr, 0)
			for range 100 { // what is needed once
				if got := status("http://" + addr + "/"); got != http.StatusOK {
					t.Fatalf("got %d", got)
				}
			}
			before := scrape(t, admin)
			p := make([]byte, 4096)
			for range clients {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, c.sends); err != nil {
					t.Fatal(err)
				}
				if c.gets == "" {
					continue
				}
				n, err := conn.Read(p)
				if err != nil || !strings.HasPrefix(string(p[:n]), c.gets) {
					t.Fatalf("got %q, %v", p[:n], err)
				}
			}
			var during sample
			proctest.Eventually(t, "all are accepted", func() bool {
				during = scrape(t, admin)
				return during.fds >= clients
			})
			each := (during.rss - before.rss) / clients
			t.Logf("%.1f KiB for each of %d", each/1024, clients)
			if each > 16<<10 {
				t.Errorf("a client costs %.0f bytes, want at most 16 KiB", each)
			}
			if got := status("http://" + addr + "/"); got != http.StatusOK {
				t.Errorf("another client got %d", got)
			}
		})
	}
}

// Without descriptors nothing is lost but time: who connects waits in the
// kernel's queue, and is served when there are some again.
func TestOutOfDescriptors(t *testing.T) {
	o := testserver.New(t, "web")
	p, addr, admin := start(t, o.Addr, 64)
	var crowd []net.Conn
	for range 64 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		crowd = append(crowd, conn)
	}
	p.WaitFor("can't accept, trying again")
	served := make(chan int)
	go func() { served <- status("http://" + addr + "/") }()
	for _, conn := range crowd {
		conn.Close()
	}
	p.WaitFor("accepting again")
	if got := <-served; got != http.StatusOK {
		t.Errorf("who waited got %d", got)
	}
	if got := status("http://" + admin + "/healthz"); got != http.StatusOK {
		t.Errorf("/healthz got %d", got)
	}
	if n := strings.Count(p.Output(), "can't accept, trying again"); n != 1 {
		t.Errorf("it said %d times that it can't accept, want once", n)
	}
}
