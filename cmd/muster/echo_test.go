package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"muster/cmd/internal/cli"
)

// startEcho runs "muster echo args" until the test ends, and returns its address.
func startEcho(t *testing.T, args ...string) (addr string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, w := io.Pipe()
	var errs bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		code := echo(ctx, cli.Std{Out: w, Err: &errs, Getenv: func(string) string { return "" }}, args)
		w.Close()
		ended <- code
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("echo %q: %v, exit code %d: %s", args, err, <-ended, &errs)
	}
	stop = func() int {
		cancel()
		code := <-ended
		ended <- code
		return code
	}
	t.Cleanup(func() { stop() })
	return strings.TrimSpace(line), stop
}

// ask sends a request without keeping its connection.
func ask(t *testing.T, method, url, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
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
	addr, stop := startEcho(t, "-name", "web/1")
	status, body := ask(t, "GET", "http://"+addr+"/a/b?x=1", "")
	if status != 200 || !strings.HasPrefix(body, "web/1 at "+addr+"\n\nGET /a/b?x=1 HTTP/1.1\n") {
		t.Errorf("got %d %q, want 200, the name, the address and the request line", status, body)
	}
	for _, field := range []string{"\nHost: " + addr + "\n", "\nX-Seen: yes\n"} {
		if !strings.Contains(body, field) {
			t.Errorf("got %q, want the field %q", body, field)
		}
	}
	if _, body = ask(t, "PUT", "http://"+addr+"/", strings.Repeat("x", 10<<20)); !strings.Contains(body, fmt.Sprintf("a body of %d bytes\n", 10<<20)) {
		t.Errorf("got %q, want the size of the body", body)
	}
	if code := stop(); code != cli.Done {
		t.Errorf("stopped: exit code %d, want %d", code, cli.Done)
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
		status, body := ask(t, test.method, "http://"+addr+test.path, "")
		if status != test.status || test.size > 0 && len(body) != test.size || !strings.Contains(body, test.text) {
			t.Errorf("%s: got %d, %d bytes %.60q, want %d, %d bytes, with %q", test.name, status, len(body), body, test.status, test.size, test.text)
		}
	}
}

func TestEchoFails(t *testing.T) {
	addr, _ := startEcho(t, "-fail", "100%")
	if status, _ := ask(t, "GET", "http://"+addr+"/", ""); status != 500 {
		t.Errorf("-fail 100%%: got %d, want 500", status)
	}
	if status, _ := ask(t, "GET", "http://"+addr+"/healthz", ""); status != 200 {
		t.Errorf("-fail 100%%: /healthz: got %d, want 200", status)
	}
}

func TestEchoUsage(t *testing.T) {
	addr, _ := startEcho(t)
	for _, test := range []struct {
		args string
		code int
		text string
	}{
		{"-fail 120%", cli.Usage, `invalid value "120%" for flag -fail: want a percentage such as 20%`},
		{"-dealy 1s", cli.Usage, `unknown flag -dealy (did you mean -delay?)`},
		{"-delay -1s", cli.Usage, `-delay -1s: want no negative one`},
		{"web", cli.Usage, `unexpected "web"`},
		{"-listen " + addr, cli.Failed, "address already in use"},
	} {
		var errs bytes.Buffer
		code := echo(t.Context(), cli.Std{Out: io.Discard, Err: &errs, Getenv: func(string) string { return "" }}, strings.Fields(test.args))
		if code != test.code || !strings.Contains(errs.String(), test.text) {
			t.Errorf("echo %s: got %d %q, want %d with %q", test.args, code, errs.String(), test.code, test.text)
		}
	}
}
