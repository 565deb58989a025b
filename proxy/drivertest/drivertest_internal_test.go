package drivertest

import (
	"io"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every case can be read, is named as the others are, and says what it shows.
func TestCases(t *testing.T) {
	files, err := fs.Sub(testdata, "testdata")
	if err != nil {
		t.Fatal(err)
	}
	cases, err := load(files)
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`^([1-9]|1[01])-[a-z-]+/[a-z0-9.-]+$`)
	runs := 0
	for name, text := range cases {
		scripts, err := parse(name, text)
		if err != nil {
			t.Error(err)
		}
		runs += len(scripts)
		if first, _, _ := strings.Cut(text, "\n"); !named.MatchString(name) || !strings.HasSuffix(first, ".") {
			t.Errorf("%s: %q: want a name like 9112-6.3-no-body and a sentence", name, first)
		}
	}
	t.Logf("%d cases, %d variants", len(cases), runs)
}

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no comment":   {"C> x", `:1: "C> x": want a comment`},
		"no steps":     {"# x\n", `no steps`},
		"no such step": {"# x\nC goes\n", `:2: "C goes": no such step`},
		"too many":     {"# x\nC closed now\n", `:2: "C closed now": no such step`},
		"no line":      {"# x\nX> y\n", `:2: "X> y": want a setting, bytes or a step`},
		"escape":       {"# x\nC> \\q\n", `no such escape`},
		"hex":          {"# x\nC> \\xg0\n", `want \xHH`},
		"short hex":    {"# x\nC> \\x1\n", `want \xHH`},
		"repetition":   {"# x\nC> \\*x{a}\n", `want \*N{TEXT}`},
		"open":         {"# x\nC> \\*3{a\n", `want \*N{TEXT}`},
	} {
		if _, err := parse("1-x/y", tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	all, err := parse("1-x/y", "# x\nvary A: 1 | 2\nvary B: \\x00 |\\t\nmodes plain\nlistener limits.head = 1\n\nC> $A\\*2{b\\r}\nC>\nC> end\\\n\nC> $B\\\nO2 end X: 1 | Y: 2\n")
	if err != nil || len(all) != 2 {
		t.Fatalf("got %d scripts, %v, want 2", len(all), err)
	}
	s := all[1]
	if s.variant != ` A=2 B=\x00 |\t` || len(s.steps) != 3 || s.steps[0].text != "2b\rb\r\r\n\r\nend" || s.steps[1].text != "\x00 |\t" ||
		s.steps[2].who != "O2" || len(s.steps[2].args) != 2 || s.settings["listener"][0] != "limits.head = 1" {
		t.Errorf("got %+v", s)
	}
}

func TestCanonical(t *testing.T) {
	for _, head := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: a \t\x80b\r\n\r\n", "get /?# HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 5\r\nx:1\r\nX: 1\r\n\r\n",
	} {
		if _, err := parseHead(head, true); err != nil {
			t.Errorf("%q: %v, want it canonical", head, err)
		}
	}
	for _, head := range []string{
		"GET / HTTP/1.0\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nX: 1\r\n\r\n", "\r\nGET / HTTP/1.1\r\n\r\n", "GET /\x80 HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nX:  1\r\n\r\n", "GET / HTTP/1.1\r\nX: 1 \r\n\r\n", "GET / HTTP/1.1\r\nX : 1\r\n\r\n", "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", "GET / HTTP/1.1\r\nX: 1\r\n 2\r\n\r\n",
		"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", "GET / HTTP/1.1\r\nX\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		if _, err := parseHead(head, true); err == nil {
			t.Errorf("%q: want it not canonical", head)
		}
	}
}

// The suite must bite: a proxy that passes bytes as they come breaks these
// rules, and those below have to say so.
func TestPipe(t *testing.T) {
	for name, want := range map[string]string{
		"1-framing/9112-6.3-cl-and-te":               "which the case does not want|was opened",
		"1-framing/9112-6.3-two-lengths":             "which the case does not want|was opened",
		"3-head/9112-2.2-line-ends":                  "which the case does not want|was opened",
		"4-target/9112-3.2-no-host":                  "which the case does not want|was opened",
		"1-framing/9112-6.3-no-body":                 "no x-forwarded-for",
		"5-hop-by-hop/9110-7.6.1-nomination-of-ours": "x-forwarded-for .*1.2.3.4",
		"3-head/9112-2.3-http10":                     "not canonical",
		"2-chunked/9112-7.1.1-bad-extensions":        "x-forwarded",
		"7-interim/9110-15.2.2-switch-unasked":       "x-forwarded",
		"11-limits/timeout-header":                   "was opened|which the case does not want",
		"10-faults/client-leaves-inside-head":        "no x-forwarded-for",
		"8-connections/9112-9.5-idle":                "x-forwarded",
		"8-connections/9112-9.3.2-pipelining":        "x-forwarded",
		"3-head/9112-8-end-inside":                   "was opened|which the case does not want",
		"4-target/9110-9.3.6-connect":                "was opened|which the case does not want",
		"9-upgrade/6455-4.2.2-switch":                "connection|x-forwarded",
		"6-forwarding/untrusted":                     "x-forwarded|no such field",
		"4-target/9110-9.3.7-options-asterisk":       "no a head at C",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := testdata.ReadFile("testdata/" + name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			scripts, err := parse(name, string(text))
			if err != nil {
				t.Fatal(err)
			}
			err = play(t, startPipe, &scripts[0], "plain", time.Second, false)
			if err == nil || !regexp.MustCompile(want).MatchString(err.Error()) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

var endpointOf = regexp.MustCompile(`endpoints = \["([^"]*)"\]`)

// startPipe runs a proxy that knows nothing of HTTP.
func startPipe(_ testing.TB, config string) (string, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	origin := endpointOf.FindStringSubmatch(config)[1]
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				up, err := net.Dial("tcp", origin)
				if err != nil {
					return
				}
				defer up.Close()
				wg.Go(func() {
					io.Copy(up, c)
					up.(*net.TCPConn).CloseWrite()
				})
				io.Copy(c, up)
			})
		}
	})
	return l.Addr().String(), func() {
		l.Close()
		wg.Wait()
	}, nil
}
