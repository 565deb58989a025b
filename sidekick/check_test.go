package sidekick

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestChecks(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.Header().Set("Location", "/status/500") // must not be followed
		w.WriteHeader(code)
	})
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "example.com" {
			fmt.Fprint(w, "this is ", r.Host)
			return
		}
		fmt.Fprint(w, "hello, all is well")
	})
	hung := make(chan struct{})
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { <-hung })
	plain := httptest.NewServer(mux)
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // one check speaks no TLS
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	t.Cleanup(func() { close(hung) })
	http, https := plain.Listener.Addr().String(), secure.Listener.Addr().String()
	nobody := closedAddr(t)

	for _, tt := range []struct {
		spec, addr string
		want       string // a part of the error; empty: passes
	}{
		{"tcp:", http, ""},
		{"tcp:", nobody, "connection refused"},
		{"http:/status/200", http, ""},
		{"http:/status/302", http, ""},
		{"http:/status/399", http, ""},
		{"http:/status/400", http, "got status 400: want 200 to 399"},
		{"http:/status/503", http, "got status 503"},
		{"http:/hang", http, "no answer within 200ms"},
		{"http:/", nobody, "connection refused"},
		{"http:/status/200", https, "got status 400"},
		{"https:/status/200", https, ""},
		{"https:/status/500", https, "got status 500"},
		{"https:/status/200", http, "server gave HTTP response to HTTPS client"},
		{"http:/status/200 status=200", http, ""},
		{"http:/status/204 status=200-203,205", http, "got status 204: want 200-203,205"},
		{"http:/status/205 status=200-203,205", http, ""},
		{"http:/status/302 status=200-299", http, "got status 302: want 200-299"},
		{"http:/hello body=well", http, ""},
		{`http:/hello body="all is well"`, http, ""},
		{"http:/hello body=ill", http, `a body of 18 bytes that begins with "hello, all is well": want "ill" in it`},
		{"http:/hello status=200 body=hello host=example.com", http, `want "hello" in it`},
		{"http:/hello status=200 body=example.com host=example.com", http, ""},
		{"https:/hello body=example.com host=example.com", https, ""},
		{"https:/status/200 tls=verify", https, "certificate signed by unknown authority"},
		{"exec:true", "", ""},
		{"exec:exit 3", "", "exit status 3"},
		{"exec:echo first; echo the reason; exit 1", "", `exit status 1: "first\nthe reason"`},
		{"exec:echo so far; sleep 1000", "", `no answer within 200ms: "so far"`},
		{"exec:sleep 1000", "", "no answer within 200ms"},
		{"exec:sleep 1000 & wait", "", "no answer within 200ms"},
	} {
		c, err := parseCheck(tt.spec, scene{addr: tt.addr, children: newChildren()})
		if err != nil {
			t.Errorf("parseCheck(%q): %v", tt.spec, err)
			continue
		}
		timeout := 30 * time.Second // a busy machine is no failure
		if strings.HasPrefix(tt.want, "no answer") {
			timeout = 200 * time.Millisecond
		}
		_, err = runChecks(t.Context(), []check{c}, timeout)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("check %q of %q: %v", tt.spec, tt.addr, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), strconv.Quote(tt.spec))):
			t.Errorf("check %q of %q: got %v: want %q in it", tt.spec, tt.addr, err, tt.want)
		}
	}
}

func closedAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestEveryCheckHasToPass(t *testing.T) {
	pass, _ := parseCheck("exec:true", scene{children: newChildren()})
	fail, _ := parseCheck("exec:false", scene{children: newChildren()})
	for _, tt := range []struct {
		checks []check
		want   bool
	}{
		{[]check{pass, pass}, true},
		{[]check{pass, fail}, false},
		{[]check{fail, pass}, false},
	} {
		if _, err := runChecks(t.Context(), tt.checks, 30*time.Second); (err == nil) != tt.want {
			t.Errorf("%q and %q: got %v: want pass %v", tt.checks[0].spec, tt.checks[1].spec, err, tt.want)
		}
	}
}

func TestNothingOfAnExecCheckOutlivesIt(t *testing.T) {
	for name, command := range map[string]string{
		"that hangs":  "sleep 1000 & echo $! >%; wait",
		"that passes": "sleep 1000 >/dev/null 2>&1 & echo $! >%",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			c, err := parseCheck("exec:"+strings.ReplaceAll(command, "%", file), scene{children: newChildren()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() { // ends the check once the file is there
				defer cancel()
				waitFor(t, "the pid", func() bool { text, _ := os.ReadFile(file); return len(text) > 0 })
			}()
			err = c.run(ctx)
			if hangs := strings.HasSuffix(command, "wait"); hangs != (err != nil) && ctx.Err() == nil {
				t.Errorf("check: got %v", err)
			}
			<-ctx.Done()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the end of the background process", func() bool { return isDead(pid) })
		})
	}
}

// isDead reports whether pid has ended: it is gone, or waits for process 1.
func isDead(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, after, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(after, "Z")
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

func TestTailKeepsTheLastBytes(t *testing.T) {
	out := &tail{max: 10}
	for range 1000 {
		_, _ = out.Write([]byte("0123456789\n"))
	}
	_, _ = out.Write([]byte("end\n\n"))
	if got := out.String(); got != "6789\nend" {
		t.Errorf("got %q: want the last 10 bytes without the space around", got)
	}
	_, _ = out.Write([]byte("\u20ac12345678"))
	if got := out.String(); got != "12345678" {
		t.Errorf("got %q: want no part of a character", got)
	}
}

func FuzzParseCheck(f *testing.F) {
	for _, spec := range []string{"tcp:", "http:/healthz", "https:/", "exec:true", "none", "http://x/", "grpc:x", "", "http:/a status=200-299,304 body=\"a b\" host=x", "https:/ tls=verify", "heartbeat:10s", "systemd:a.service", "docker:web"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		c, err := parseCheck(spec, scene{addr: "127.0.0.1:1", docker: "unix:///x"})
		if (err == nil) != (c.run != nil) || err == nil && c.spec != spec {
			t.Errorf("parseCheck(%q): got check %q, error %v", spec, c.spec, err)
		}
	})
}
