//go:build containers

package docker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"muster/internal/dockertest"
)

const healthcheck = `HEALTHCHECK --interval=200ms --timeout=30s --retries=1 --start-period=1s CMD ["/app", "check"]`

// A scene is an engine that is followed.
type scene struct {
	*dockertest.Engine
	t    *testing.T
	f    *Follower
	log  *said
	name string // begins those of our containers
}

// follow starts an engine and follows it.
func follow(t *testing.T, c Config) *scene {
	s := &scene{Engine: dockertest.Start(t), t: t, log: new(said), name: fmt.Sprintf("docker-%d-", os.Getpid())}
	c.Host, c.Log = "unix://"+s.Socket(), slog.New(slog.NewTextHandler(s.log, nil))
	s.f = Follow(t.Context(), c)
	t.Cleanup(s.f.Close)
	return s
}

// run starts a container of image; the last arguments are its own.
func (s *scene) run(name, image string, flags ...string) {
	s.t.Helper()
	s.Docker(s.t, append(append([]string{"run", "-d", "--name", s.name + name, "--hostname", name}, flags...), image)...)
}

func (s *scene) do(command, name string, more ...string) {
	s.t.Helper()
	s.Docker(s.t, append([]string{command, s.name + name}, more...)...)
}

// ours is what our containers announce, as "SERVICE NAME STATE" each; or the error.
func (s *scene) ours() ([]string, error) {
	apps, err := s.f.Apps(s.t.Context())
	var texts []string
	for _, a := range apps {
		if name, ok := strings.CutPrefix(a.Container, s.name); ok {
			texts = append(texts, fmt.Sprintf("%s %s %s", a.Service, name, a.State))
		}
	}
	return texts, err
}

// until waits for what our containers shall announce, and returns each other list
// that there was on the way.
func (s *scene) until(want ...string) (way []string) {
	s.t.Helper()
	deadline, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for {
		got, err := s.ours()
		if err == nil && slices.Equal(got, want) {
			return way
		}
		text := strings.Join(got, ", ")
		if err != nil {
			text = err.Error()
		}
		if len(way) == 0 || way[len(way)-1] != text {
			way = append(way, text)
		}
		select {
		case <-s.f.Changed:
		case <-deadline.Done():
			s.t.Fatalf("got %q: want %q, after %q\n%s", text, want, way, s.log.String())
		}
	}
}

// fails waits for an error and returns it.
func (s *scene) fails() string {
	s.t.Helper()
	for deadline := time.After(time.Minute); ; {
		if _, err := s.f.Apps(s.t.Context()); err != nil {
			return err.Error()
		}
		select {
		case <-s.f.Changed:
		case <-deadline:
			s.t.Fatal("got no error")
		}
	}
}

// said is a log that is read while it is written.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// Everything that may happen to a container, on one engine, which takes long to
// start.
func TestContainers(t *testing.T) {
	s := follow(t, Config{})
	plain := s.Image(t, "./testdata/app", "EXPOSE 8080")
	checked := s.Image(t, "./testdata/app", "EXPOSE 8080", healthcheck)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *scene, string, string)
	}{
		{"life", testLife},
		{"health", testHealth},
		{"stop", testStop},
		{"signals", testSignals},
		{"rename and networks", testRename},
		{"restarting", testRestarting},
		{"bad labels", testBadLabels},
		{"registrator", testRegistrator},
		{"addresses", testAddresses},
		{"many", testMany},
		{"1000 changes", testThousand},
		{"engine killed", testEngineKilled},
		{"engine restarted", testEngineRestarted},
		{"engine frozen", testEngineFrozen},
	} {
		t.Run(test.name, func(t *testing.T) {
			one := &scene{Engine: s.Engine, t: t, f: s.f, log: s.log, name: fmt.Sprintf("%s%s-", s.name, strings.ReplaceAll(test.name, " ", ""))}
			defer func() {
				if ids := s.Docker(t, "ps", "-aq", "--filter", "name="+one.name); ids != "" {
					s.Docker(t, append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...)
				}
				one.until()
				if t.Failed() {
					t.Logf("--- the follower said\n%s", s.log.String())
				}
			}()
			test.run(t, one, plain, checked)
		})
	}
}

func testLife(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web")
	s.until("web a up")
	s.run("b", plain, "--label", "muster.service=web")
	s.run("stranger", plain)
	s.until("web a up", "web b up")
	s.do("pause", "a")
	s.until("web b up")
	s.do("unpause", "a")
	s.until("web a up", "web b up")
	s.do("kill", "b")
	s.until("web a up")
	s.do("start", "b")
	s.until("web a up", "web b up")
	s.do("restart", "a")
	s.until("web a up", "web b up")
	s.do("rm", "b", "-f")
	s.until("web a up")
}

// Only a healthy container is up. One that starts is announced as that.
func testHealth(t *testing.T, s *scene, _, checked string) {
	s.run("a", checked, "--label", "muster.service=web", "--health-start-period=60s")
	s.until("web a starting")
	s.do("exec", "a", "/app", "well")
	s.until("web a up")
	s.do("exec", "a", "/app", "ill")
	s.until()
	s.do("exec", "a", "/app", "well")
	s.until("web a up")
}

// A container that is told to end drains while it ends what it is at.
func testStop(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web", "-e", "LINGER=2s")
	s.run("b", plain, "--label", "muster.service=web", "-e", "LINGER=2s", "--stop-signal", "SIGQUIT")
	s.until("web a up", "web b up")
	for _, name := range []string{"a", "b"} {
		way := s.during(func() { s.do("stop", name) }, func(now []string) bool {
			return !slices.ContainsFunc(now, func(text string) bool { return strings.HasPrefix(text, "web "+name) })
		})
		if !slices.ContainsFunc(way, func(text string) bool { return strings.Contains(text, "web "+name+" draining") }) {
			t.Errorf("docker stop of %s: got %q: want draining before it is gone", name, way)
		}
		s.do("start", name)
		s.until("web a up", "web b up")
	}
}

// during runs do and notes every list until one is the end.
func (s *scene) during(do func(), end func(now []string) bool) (way []string) {
	s.t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(do)
	for deadline := time.After(time.Minute); ; {
		now, err := s.ours()
		if err == nil && end(now) {
			return way
		}
		way = append(way, strings.Join(now, ", "))
		select {
		case <-s.f.Changed:
		case <-deadline:
			s.t.Fatalf("no end: got %q", way)
		}
	}
}

// Not every signal is told to end.
func testSignals(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web", "-e", "LINGER=60s")
	s.until("web a up")
	s.do("kill", "a", "-s", "HUP")
	s.run("b", plain, "--label", "muster.service=web")
	s.until("web a up", "web b up") // the events before are in
	s.do("kill", "a", "-s", "TERM")
	s.until("web a draining", "web b up")
	s.do("restart", "a", "-t", "0")
	s.until("web a up", "web b up")
}

func testRename(t *testing.T, s *scene, plain, _ string) {
	net := s.name + "net"
	s.Docker(t, "network", "create", net)
	defer s.Docker(t, "network", "rm", "-f", net)
	s.run("a", plain, "--label", "muster.service=web", "--label", "muster.network="+net)
	s.run("b", plain, "--label", "muster.service=web")
	s.until("web b up") // a is not on its network yet
	s.Docker(t, "network", "connect", net, s.name+"a")
	s.until("web a up", "web b up")
	s.do("rename", "a", s.name+"c")
	s.until("web b up", "web c up")
	s.Docker(t, "network", "disconnect", net, s.name+"c")
	s.until("web b up")
	s.do("rm", "c", "-f")
}

// One that waits for its restart is running, as the engine has it, but nobody is there.
func testRestarting(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web", "--restart", "always")
	s.until("web a up")
	s.Docker(t, "update", "--restart", "no", s.name+"a")
	s.do("kill", "a")
	s.until()
	s.do("rm", "a", "-f")
	s.Docker(t, "run", "-d", "--name", s.name+"b", "--restart", "always", "--label", "muster.service=web", "--label", "muster.port=8080", plain, "ill") // ends with 1 at once
	s.run("c", plain, "--label", "muster.service=web")
	s.until("web c up")
}

func testBadLabels(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web", "--label", "muster.prot=80")
	s.run("b", plain, "--label", "muster.service=web")
	s.until("web b up")
	said := "container=" + s.name + `a err="unknown label \"muster.prot\" (did you mean \"muster.port\"?)"`
	if n := strings.Count(s.log.String(), said); n != 1 {
		t.Errorf("%s is said %d times, want once, in\n%s", said, n, s.log.String())
	}
}

func testRegistrator(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "-e", "SERVICE_NAME=web", "-e", "SERVICE_TAGS=blue,green", "-p", s.Host+"::8080")
	s.until("web a up")
	apps, err := s.f.Apps(t.Context())
	i := slices.IndexFunc(apps, func(a App) bool { return a.Container == s.name+"a" })
	if err != nil || i < 0 || !slices.Equal(apps[i].Tags, []string{"blue", "green"}) || apps[i].Addr != s.Published(t, s.name+"a", 8080) ||
		apps[i].ID != apps[i].Host+":"+s.name+"a:8080" {
		t.Errorf("got %+v, %v: want the tags, the published address and HOST:CONTAINER:PORT", apps, err)
	}
}

// Where a container is reached, by what inspect really says.
func testAddresses(t *testing.T, s *scene, plain, _ string) {
	s.run("own", plain, "--label", "muster.service=web")
	s.run("every", plain, "--label", "muster.service=web", "-p", "8080")
	s.Docker(t, "run", "-d", "--name", s.name+"host", "--label", "muster.service=web", "--network", "host", plain)
	s.until("web every up", "web host up", "web own up")
	apps, _ := s.f.Apps(t.Context())
	_, port, _ := strings.Cut(s.Docker(t, "port", s.name+"every", "8080/tcp"), ":")
	port, _, _ = strings.Cut(port, "\n")
	for name, want := range map[string]string{
		"own":   s.Docker(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", s.name+"own") + ":8080",
		"every": "127.0.0.1:" + port,
		"host":  "127.0.0.1:8080",
	} {
		if i := slices.IndexFunc(apps, func(a App) bool { return a.Container == s.name+name }); i < 0 || apps[i].Addr != want {
			t.Errorf("%s: got %+v: want %s", name, apps, want)
		}
	}
}

// Many at once lose nobody.
func testMany(t *testing.T, s *scene, plain, _ string) {
	var want []string
	for i := range 8 {
		want = append(want, fmt.Sprintf("web %02d up", i))
		s.run(fmt.Sprintf("%02d", i), plain, "--label", "muster.service=web")
	}
	s.until(want...)
	s.Docker(t, append([]string{"kill"}, strings.Fields(s.Docker(t, "ps", "-q", "--filter", "name="+s.name))...)...)
	s.until()
}

// A thousand changes leave no goroutine, no connection and no memory behind.
func testThousand(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web", "--label", "muster.id="+s.name)
	s.until("web a up")
	id := s.Docker(t, "inspect", "-f", "{{.Id}}", s.name+"a")
	c, err := Config{Host: "unix://" + s.Socket()}.client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	measure := func() (goroutines, files int, heap uint64) {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), len(open), m.HeapAlloc
	}
	var goroutines, files int
	var heap uint64
	for i := range 1100 {
		name := fmt.Sprintf("x%d", i)
		if _, err := c.ContainerRename(t.Context(), id, client.ContainerRenameOptions{NewName: s.name + name}); err != nil {
			t.Fatal(err)
		}
		if i == 99 || i == 1099 {
			s.until("web " + name + " up")
			g, f, h := measure()
			t.Logf("after %d changes: %d goroutines, %d files, %d KiB", i+1, g, f, h>>10)
			if i == 99 {
				goroutines, files, heap = g, f, h
			} else if g > goroutines+4 || f > files+4 || h > heap+1<<20 {
				t.Errorf("after 100 changes %d goroutines, %d files, %d bytes, and 1,000 later %d, %d and %d: want no more", goroutines, files, heap, g, f, h)
			}
		}
	}
}

// The containers of an engine that is killed run on. What happens until it is back
// is seen then.
func testEngineKilled(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web", "--restart", "always")
	s.run("b", plain, "--label", "muster.service=web")
	s.until("web a up", "web b up")
	s.Stop(t, syscall.SIGKILL)
	if err := s.fails(); !strings.Contains(err, "docker: ") {
		t.Errorf("away: got %q", err)
	}
	s.Start(t)
	s.until("web a up") // dockerd ends what ran on and has no policy to start again
	s.run("c", plain, "--label", "muster.service=web")
	s.until("web a up", "web c up")
}

// The containers of an engine that is stopped end before it, and are withdrawn.
func testEngineRestarted(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web", "--restart", "always")
	s.until("web a up")
	s.Stop(t, syscall.SIGTERM)
	s.fails()
	s.Start(t)
	s.until("web a up")
}

func testEngineFrozen(t *testing.T, s *scene, plain, _ string) {
	s.run("a", plain, "--label", "muster.service=web")
	s.until("web a up")
	s.Signal(t, syscall.SIGSTOP)
	if err := s.fails(); !strings.Contains(err, "no answer within 5s") {
		t.Errorf("frozen: got %q: want that it does not answer", err)
	}
	s.Signal(t, syscall.SIGCONT)
	s.until("web a up")
}
