package main_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"muster/internal/proctest"
)

// loopback is an address as our commands print it.
var loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// startEcho runs "muster echo args" until the test ends, and returns its address.
func startEcho(t *testing.T, args ...string) (addr string, p *proctest.Proc) {
	t.Helper()
	p = proctest.Start(t, "echo", nil, proctest.Build(t, "muster/cmd/muster"), append([]string{"echo"}, args...)...)
	return loopback.FindString(p.WaitFor("127.0.0.1:")), p
}

// request sends one over a connection of its own.
func request(t *testing.T, method, url, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("X-Seen", "yes")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestEchoSaysWhoAndWhat(t *testing.T) {
	addr, p := startEcho(t, "-name", "web/1")
	status, body := request(t, "GET", "http://"+addr+"/a/b?x=1", "")
	if status != 200 || !strings.HasPrefix(body, "web/1 at "+addr+"\n\nGET /a/b?x=1 HTTP/1.1\n") {
		t.Errorf("got %d %q, want 200, the name, the address and the request line", status, body)
	}
	for _, field := range []string{"\nHost: " + addr + "\n", "\nX-Seen: yes\n"} {
		if !strings.Contains(body, field) {
			t.Errorf("got %q, want the field %q", body, field)
		}
	}
	if _, body = request(t, "PUT", "http://"+addr+"/", strings.Repeat("x", 10<<20)); !strings.Contains(body, fmt.Sprintf("a body of %d bytes\n", 10<<20)) {
		t.Errorf("got %q, want the size of the body", body)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		t.Errorf("after SIGTERM: exit code %d, want 0", code)
	}
	if _, err := http.Get("http://" + addr); err == nil {
		t.Errorf("%s still answers after the end", addr)
	}
}

func TestEchoAnswersAsAsked(t *testing.T) {
	addr, _ := startEcho(t, "-delay", "1ms")
	for _, test := range []struct {
		name, method, path string
		status, size       int // size 0: any
		text               string
	}{
		{"status", "GET", "/?status=503", 503, 0, addr},
		{"slow", "GET", "/?delay=20ms", 200, 0, addr},
		{"large", "GET", "/?bytes=3000001", 200, 3000001, "muster echo"},
		{"large and failing", "GET", "/?bytes=10&status=502", 502, 10, "muster"},
		{"bad status", "GET", "/?status=99", 400, 0, `status "99": want 200 to 599`},
		{"bad delay", "GET", "/?delay=soon", 400, 0, `delay "soon": want a duration`},
		{"bad bytes", "GET", "/?bytes=-1", 400, 0, `bytes "-1": want 0 to`},
		{"healthy", "GET", "/healthz", 200, 0, "ok"},
		{"asked to fail", "POST", "/healthz?status=503", 503, 0, "service unavailable"},
		{"failing", "GET", "/healthz", 503, 0, "service unavailable"},
		{"others not", "GET", "/", 200, 0, addr},
		{"asked to recover", "POST", "/healthz", 200, 0, "ok"},
		{"recovered", "GET", "/healthz", 200, 0, "ok"},
	} {
		status, body := request(t, test.method, "http://"+addr+test.path, "")
		if status != test.status || test.size > 0 && len(body) != test.size || !strings.Contains(body, test.text) {
			t.Errorf("%s: got %d, %d bytes %.60q, want %d, %d bytes, with %q", test.name, status, len(body), body, test.status, test.size, test.text)
		}
	}
}

func TestEchoFails(t *testing.T) {
	addr, _ := startEcho(t, "-fail", "100%")
	if status, _ := request(t, "GET", "http://"+addr+"/", ""); status != 500 {
		t.Errorf("-fail 100%%: got %d, want 500", status)
	}
	if status, _ := request(t, "GET", "http://"+addr+"/healthz", ""); status != 200 {
		t.Errorf("-fail 100%%: /healthz: got %d, want 200", status)
	}
}

func TestEchoUsage(t *testing.T) {
	muster := proctest.Build(t, "muster/cmd/muster")
	addr, _ := startEcho(t)
	for _, test := range []struct {
		args string
		code int
		text string
	}{
		{"-fail 120%", 2, `invalid value "120%" for flag -fail: want a percentage such as 20%`},
		{"-dealy 1s", 2, `unknown flag -dealy (did you mean -delay?)`},
		{"-delay -1s", 2, `-delay -1s: want no negative one`},
		{"web", 2, `unexpected "web"`},
		{"-listen " + addr, 1, "address already in use"},
	} {
		p := proctest.Start(t, "echo "+test.args, nil, muster, append([]string{"echo"}, strings.Fields(test.args)...)...)
		if code := p.Wait(); code != test.code || !strings.Contains(p.Output(), test.text) {
			t.Errorf("echo %s: got %d %q, want %d with %q", test.args, code, p.Output(), test.code, test.text)
		}
	}
}
