package soak_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"muster/internal/proctest"
	"muster/internal/testserver"
)

// patient has times that no test reaches.
const patient = `
[[listener]]
bind    = %q
timeout = { header = "10m", body = "10m", idle = "10m" }
limits  = { %s }
[log]
access = "off"
[service.web]
endpoints = [%q]
`

// start runs muster for one origin with at most so many descriptors, 0: no
// matter how many.
func start(t *testing.T, origin string, descriptors int, limits string) (p *proctest.Proc, addr, admin string) {
	t.Helper()
	addr, admin = proctest.FreeAddr(t), proctest.FreeAddr(t)
	path := filepath.Join(t.TempDir(), "muster.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, patient, addr, limits, origin), 0o600); err != nil {
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
	ready(t, admin)
	return p, addr, admin
}

// ready waits until muster is.
func ready(t *testing.T, admin string) {
	t.Helper()
	proctest.Eventually(t, "muster is ready", func() bool { return status("http://"+admin+"/readyz") == http.StatusOK })
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
			_, addr, admin := start(t, o.Addr, 0, "")
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
	p, addr, admin := start(t, o.Addr, 64, "connections = 1000")
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
	if n := scrape(t, admin).notAccepted; n < 1 {
		t.Errorf("the metric says %v times, want at least once", n)
	}
	if n := strings.Count(p.Output(), "can't accept, trying again"); n != 1 {
		t.Errorf("it said %d times that it can't accept, want once", n)
	}
}

// A limit of connections leaves descriptors for what else there is to do: the
// endpoints, and who looks at the proxy.
func TestReserveOfDescriptors(t *testing.T) {
	o := testserver.New(t, "web")
	p, addr, admin := start(t, o.Addr, 100, "")
	var crowd []net.Conn
	for range 150 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		crowd = append(crowd, conn)
	}
	p.WaitFor("as many connections as may be, accepting no more")
	for range 20 {
		if got := status("http://" + admin + "/healthz"); got != http.StatusOK {
			t.Fatalf("/healthz got %d", got)
		}
	}
	// Those that were accepted are served: the endpoint can be reached.
	if _, err := io.WriteString(crowd[0], "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(crowd[0]), nil)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("one of the crowd got %v, %v", res, err)
	}
	if out := p.Output(); strings.Contains(out, "can't accept") {
		t.Errorf("it ran out of descriptors:\n%s", out)
	}
	if n := strings.Count(p.Output(), "accepting no more"); n != 1 {
		t.Errorf("it said %d times that it is full, want once", n)
	}
}

// Who has more connections than may be gets 503 at once, and others and the
// admin address do not notice.
func TestShedding(t *testing.T) {
	const most, flood = 20, 3000
	o := testserver.New(t, "web")
	_, addr, admin := start(t, o.Addr, 0, fmt.Sprintf("per_client = %d", most))
	for range most {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
	}
	before := scrape(t, admin)
	var wg sync.WaitGroup
	var shed, dropped, other atomic.Int64
	for range 10 {
		wg.Go(func() {
			for range flood / 10 {
				switch status("http://" + addr + "/") {
				case http.StatusServiceUnavailable:
					shed.Add(1)
				case 0: // more than are told why
					dropped.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	for range 50 {
		if got := status("http://" + admin + "/healthz"); got != http.StatusOK {
			t.Errorf("/healthz got %d", got)
		}
	}
	wg.Wait()
	after := scrape(t, admin)
	t.Logf("%d got 503, %d no answer; %.0f µs of the processor each", shed.Load(), dropped.Load(), (after.cpu-before.cpu)/flood*1e6)
	if shed.Load() == 0 || other.Load() > 0 || after.turnedAway-before.turnedAway != flood {
		t.Errorf("%d got 503 and %d something else, %.0f were counted, want %d", shed.Load(), other.Load(), after.turnedAway-before.turnedAway, flood)
	}
	if o.Count() != most {
		t.Errorf("the endpoint saw %d requests, want %d", o.Count(), most)
	}
}
