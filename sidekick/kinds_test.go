package sidekick

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// mustParse is the check of a spec that is right.
func mustParse(t *testing.T, spec string, at scene) check {
	t.Helper()
	c, err := parseCheck(spec, at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// holdTo runs the check and holds what it says against want, a part of the
// error; empty means that it passes.
func holdTo(t *testing.T, c check, want string) {
	t.Helper()
	_, err := runChecks(t.Context(), []check{c}, 30*time.Second)
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v: want %q in it", c.spec, err, want)
	}
}

// serveGRPC serves grpc.health.v1, if there is a health, on a free port.
func serveGRPC(t *testing.T, h *grpchealth.Server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	if h != nil {
		healthpb.RegisterHealthServer(s, h)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestGRPCCheck(t *testing.T) {
	h := grpchealth.NewServer()
	at := scene{addr: serveGRPC(t, h)}
	web, whole := mustParse(t, "grpc:web", at), mustParse(t, "grpc:", at)

	holdTo(t, whole, "")
	holdTo(t, web, "NotFound: unknown service")
	h.SetServingStatus("web", healthpb.HealthCheckResponse_SERVING)
	holdTo(t, web, "")
	h.SetServingStatus("web", healthpb.HealthCheckResponse_NOT_SERVING)
	holdTo(t, web, "got status NOT_SERVING: want SERVING")
	holdTo(t, whole, "")

	holdTo(t, mustParse(t, "grpc:web", scene{addr: serveGRPC(t, nil)}), "does not speak grpc.health.v1")
	holdTo(t, mustParse(t, "grpc:web", scene{addr: closedAddr(t)}), "connection refused")

	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := mustParse(t, "grpc:web", scene{addr: silent.Addr().String()})
	if _, err := runChecks(t.Context(), []check{c}, 200*time.Millisecond); err == nil || err.Error() != `check "grpc:web": no answer within 200ms` {
		t.Errorf("a server that says nothing: got %v", err)
	}
}

func TestHeartbeatCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Service: "web", Addr: "10.0.0.5:80", Checks: []string{"heartbeat:10s"}, Lease: noLease{}})
		if err != nil {
			t.Fatal(err)
		}
		c := s.checks[0]
		holdTo(t, c, "no beat yet")
		s.Beat()
		holdTo(t, c, "")
		time.Sleep(10 * time.Second)
		holdTo(t, c, "")
		time.Sleep(time.Second)
		holdTo(t, c, "the last beat was 11s ago: want one every 10s")
		s.Beat()
		holdTo(t, c, "")
		if n := s.Report().Counts.Beats; n != 2 {
			t.Errorf("got %d beats: want 2", n)
		}
	})
}

func TestWhatIsWrongWithASpec(t *testing.T) {
	at := scene{addr: "10.0.0.5:80", docker: "unix:///var/run/docker.sock"}
	for spec, want := range map[string]string{
		"":                              "want tcp:, http:/PATH",
		"tcp":                           "want tcp:, http:/PATH",
		"ping:x":                        "systemd:UNIT, docker:CONTAINER or none",
		"exec: ":                        "want tcp:, http:/PATH",
		"systemd:":                      "want tcp:, http:/PATH",
		"docker:":                       "want tcp:, http:/PATH",
		"http:healthz":                  "want http:/PATH, asked of the announced address",
		"http://x/":                     "want http:/PATH, asked of the announced address",
		"http:/%zz":                     "invalid URL escape",
		"http:/ status=99":              `status "99": want codes from 100 to 599 such as 200-299,304`,
		"http:/ status=200-":            `status "200-": want codes`,
		"http:/ status=299-200":         `status "299-200": want codes`,
		"http:/ status=600":             `status "600": want codes`,
		"http:/ stat=200":               `field stat="200": want status=200-299, body=TEXT, host=NAME`,
		"http:/ body=":                  `field body="": want`,
		"http:/ tls=verify":             "or tls=verify for https",
		"https:/ tls=no":                `field tls="no": want`,
		"http:/ healthy":                `"healthy": want NAME=VALUE behind the path`,
		`http:/ body="a`:                "the quotes don't end",
		`http:/ body="a"b`:              "want a space behind the quotes",
		"heartbeat:":                    "want heartbeat:TIME",
		"heartbeat:10":                  "want heartbeat:TIME",
		"heartbeat:-1s":                 "want heartbeat:TIME",
		"systemd:a b":                   "want systemd:UNIT",
		"docker:a/b":                    "want docker:CONTAINER, its name or ID",
		"http:/ok status=200 body=\"\"": `field body="": want`,
	} {
		_, err := parseCheck(spec, at)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "check ") {
			t.Errorf("parseCheck(%q): got %v: want %q in it", spec, err, want)
		}
	}
	at.docker = "tcp://10.0.0.1:2375"
	if _, err := parseCheck("docker:web", at); err == nil || !strings.Contains(err.Error(), `docker host "tcp://10.0.0.1:2375": want unix://PATH`) {
		t.Errorf("docker by TCP: got %v", err)
	}
}

// What a redirect leads to has nothing to say, and it gets no request.
func TestNoRedirectIsFollowed(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Path)
		mu.Unlock()
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})}
	go srv.Serve(l)
	defer srv.Close()
	holdTo(t, mustParse(t, "http:/start", scene{addr: l.Addr().String()}), "")
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 1 || asked[0] != "/start" {
		t.Errorf("asked for %q: want /start alone", asked)
	}
}

func TestUnitState(t *testing.T) {
	for text, want := range map[string]string{
		"LoadState=loaded\nActiveState=active\nSubState=running\n":        "",
		"LoadState=loaded\nActiveState=reloading\nSubState=reload\n":      "",
		"LoadState=loaded\nActiveState=activating\nSubState=start-post\n": "the unit is activating (start-post): want active",
		"LoadState=loaded\nActiveState=failed\nSubState=failed\n":         "the unit is failed (failed): want active",
		"LoadState=not-found\nActiveState=inactive\nSubState=dead\n":      "the unit is not-found",
		"": `systemctl said "": want ActiveState`,
	} {
		if err := unitState(text); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("unitState(%q): got %v: want %q", text, err, want)
		}
	}
}

func TestAFlappingAppIsSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// An app that passes five times and fails three, for ever.
		n := 0
		flapping := check{"script:", func(context.Context) error {
			n++
			if (n-1)%8 < 5 {
				return nil
			}
			return context.Canceled
		}}
		s := &Sidekick{cfg: Config{Lease: noLease{}}.withDefaults(), checks: []check{flapping}, news: make(chan finding, 1)}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		var reasons []string
		var at []time.Duration
		began := time.Now()
		done := make(chan struct{})
		go func() { s.check(ctx); close(done) }()
		for open := true; open; {
			select {
			case f := <-s.news:
				reasons, at = append(reasons, f.reason), append(at, time.Since(began))
			case <-done:
				open = false
			}
		}
		// Seven changes are an app that flaps: twice as many passes are needed, 4.
		// It still has them, and at the next change needs 8, which it never has.
		if len(reasons) != 8 && len(reasons) != 10 {
			t.Fatalf("got %d changes in 30 minutes, at %v: want 8 at rise 2, 4 and 8: %q", len(reasons), at, reasons)
		}
		if last := at[len(at)-1]; last > 3*time.Minute {
			t.Errorf("the last change came after %v: want none after the first minutes", last)
		}
		last := reasons[len(reasons)-1]
		if want := `check "script:": context canceled (flapping: up again after 8 passes)`; last != want {
			t.Errorf("the last reason: got %q: want %q", last, want)
		}
		if r := s.Report(); r.Rise != 8 {
			t.Errorf("report: got rise %d: want 8", r.Rise)
		}
	})
}

func TestTheSlowdownEnds(t *testing.T) {
	v := verdict{rise: 2, fall: 3}
	age := time.Duration(0)
	add := func(pass bool, n int) (changes int) {
		for range n {
			age += 2 * time.Second
			if v.add(pass, age) {
				changes++
			}
		}
		return changes
	}
	for i := range 3 {
		if n := add(true, 2) + add(false, 3); n != 2 || v.needed() != 2 {
			t.Fatalf("round %d: got %d changes, then rise %d: want 2 and 2", i, n, v.needed())
		}
	}
	if n := add(true, 2); n != 1 || v.needed() != 4 {
		t.Fatalf("the 7th change: got %d, then rise %d: want 1 and 4", n, v.needed())
	}
	if add(false, 3); v.needed() != 8 {
		t.Fatalf("the 8th change: got rise %d: want 8", v.needed())
	}
	if n := add(true, 7); n != 0 {
		t.Fatal("up after 7 passes: want 8")
	}
	if n := add(true, 1); n != 1 || v.needed() != 8 {
		t.Fatalf("8 passes: got %d changes, rise %d: want up, and no more than 8", n, v.needed())
	}
	add(true, 149) // 298 s
	if v.needed() != 8 {
		t.Errorf("rise after 298s: got %d: want 8", v.needed())
	}
	add(true, 1)
	if v.needed() != 2 {
		t.Errorf("rise after 5m of being up: got %d: want 2", v.needed())
	}
	if n := add(false, 3) + add(true, 2); n != 2 || v.needed() != 2 {
		t.Errorf("one failure later: got %d changes, rise %d: want 2 and 2, as before", n, v.needed())
	}
	high := verdict{rise: 12, fall: 1}
	for i := range 40 {
		high.add(i%13 != 12, time.Duration(i)*time.Second)
	}
	if high.needed() != 12 {
		t.Errorf("rise 12: got %d: want it to stay", high.needed())
	}
}
