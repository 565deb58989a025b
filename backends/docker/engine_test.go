//go:build containers

package docker

import (
	"context"
	"fmt"
	"iter"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/backends"
	"muster/catalog"
	"muster/internal/dockertest"
)

// A watch is one that is asked by hand.
type watch struct {
	t    *testing.T
	next func() (backends.Change, error, bool)
}

func watching(t *testing.T, s *Store, prefixes ...string) *watch {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	next, stop := iter.Pull2(s.Watch(ctx, prefixes))
	t.Cleanup(func() { stop(); cancel() })
	return &watch{t, next}
}

// news is the next Change that says something.
func (w *watch) news() backends.Change {
	w.t.Helper()
	for {
		c, err, ok := w.next()
		if !ok {
			w.t.Fatal("the watch has ended")
		}
		if err == nil && (c.Full || len(c.Put)+len(c.Deleted) > 0) {
			return c
		}
	}
}

// The promises of a store. Package backendtest can't ask for them: it puts any key
// and any value, and here both are made of what a container is.
func TestContainersAsKeys(t *testing.T) {
	e := dockertest.Start(t)
	image := e.Image(t, "muster/internal/docker/testdata/app", "EXPOSE 8080")
	name := fmt.Sprintf("keys-%d", os.Getpid())
	s := open(t, "docker:"+e.Socket()+"?prefix="+name)
	plain, meta := "/"+name, "/"+name+".meta"

	// Away before the first change.
	e.Stop(t, syscall.SIGTERM)
	w := watching(t, s, plain, meta)
	if c, err, _ := w.next(); err == nil {
		t.Errorf("away: got %+v, want an error", c)
	}
	e.Start(t)
	if c := w.news(); !c.Full || len(c.Put)+len(c.Deleted) > 0 {
		t.Errorf("the first Change: got %+v, want Full and nothing else", c)
	}

	// Both keys come and go in one Change.
	e.Docker(t, "run", "-d", "--name", name, "--label", "muster.service=web", "--label", "muster.id=one", image)
	c := w.news()
	if c.Full || len(c.Put) != 2 || c.Put[0].Key != meta+"/web/one" || c.Put[1].Key != plain+"/web/one" {
		t.Fatalf("a container was started: got %+v, want its two keys", c)
	}
	want := e.Docker(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}:8080", name)
	a, err := catalog.ParseMetadata(c.Put[0].Value)
	if c.Put[1].Value != want || err != nil || a.Addr != want || a.State != catalog.Up || a.Started == nil {
		t.Errorf("got %q and %+v, %v: want the address %s", c.Put[1].Value, a, err, want)
	}

	// A second watch, for a part.
	part := watching(t, s, plain+"/web")
	if c := part.news(); !c.Full || len(c.Put) != 1 || c.Put[0].Value != want {
		t.Errorf("under %s/web: got %+v, want one key", plain, c)
	}
	if c, err := s.Read(t.Context(), []string{"/"}); err != nil || !c.Full || len(c.Put) != 2 {
		t.Errorf("Read: got %+v, %v, want two keys", c, err)
	}

	// A quiet store says so.
	for range 3 {
		if c, err, _ := w.next(); err != nil || c.Full || len(c.Put)+len(c.Deleted) > 0 {
			t.Errorf("from a quiet store: got %+v, %v, want a Change with nothing", c, err)
		}
	}

	// Away for a while: what happened in between comes as one difference.
	e.Stop(t, syscall.SIGKILL)
	for {
		if _, err, ok := w.next(); err != nil || !ok {
			break
		}
	}
	e.Start(t)
	e.Docker(t, "rm", "-f", name)
	if c := w.news(); c.Full || len(c.Put) > 0 || strings.Join(c.Deleted, " ") != meta+"/web/one "+plain+"/web/one" {
		t.Errorf("it went while the engine was away: got %+v, want both keys deleted", c)
	}
	if c := part.news(); len(c.Deleted) != 1 {
		t.Errorf("under %s/web: got %+v, want one key deleted", plain, c)
	}
}
