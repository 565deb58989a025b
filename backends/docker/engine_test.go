//go:build containers

package docker

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/backends"
	"muster/catalog"
	"muster/internal/dockertest"
	"muster/internal/etcdtest"
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

// An engine over TCP, with TLS: found and trusted as Docker's own client does.
func TestContainersOverTLS(t *testing.T) {
	certs, strangers := etcdtest.NewCerts(t), etcdtest.NewCerts(t)
	e := dockertest.StartTLS(t, certs.CA, certs.Cert, certs.Key)
	relay := etcdtest.NewRelay(t, e.TCP())
	image := e.Image(t, "muster/internal/docker/testdata/app", "EXPOSE 8080")

	mine := folder(t, certs.CA, certs.ClientCert, certs.ClientKey)
	over := func(url string, env map[string]string) *Store {
		t.Helper()
		s, err := Open(url, func(name string) string { return env[name] }, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tcp := "tcp://" + relay.Addr()
	w := watching(t, over("docker:", map[string]string{"DOCKER_HOST": tcp, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": mine}), "/services")
	if c := w.news(); !c.Full || len(c.Put) > 0 {
		t.Errorf("the first Change: got %+v, want Full and nothing else", c)
	}
	e.Docker(t, "run", "-d", "--name", "tls1", "--label", "muster.service=web", "--label", "muster.id=one", image)
	if c := w.news(); len(c.Put) != 1 || c.Put[0].Key != "/services/web/one" {
		t.Errorf("a container was started: got %+v, want its key", c)
	}

	// Broken, and whole again: what happened meanwhile is one difference.
	relay.Refuse()
	if _, err, _ := w.next(); err == nil {
		for err == nil {
			_, err, _ = w.next()
		}
	}
	e.Docker(t, "run", "-d", "--name", "tls2", "--label", "muster.service=web", "--label", "muster.id=two", image)
	relay.Heal()
	if c := w.news(); c.Full || len(c.Put) != 1 || c.Put[0].Key != "/services/web/two" || len(c.Deleted) > 0 {
		t.Errorf("after a break: got %+v, want the second container's key", c)
	}

	for name, test := range map[string]struct {
		url string
		env map[string]string
	}{
		"the URL's host":      {"docker://" + relay.Addr(), map[string]string{"DOCKER_CERT_PATH": mine}},
		"docker's folder":     {tcp, map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": mine}},
		"the user's folder":   {tcp, map[string]string{"DOCKER_TLS_VERIFY": "1", "HOME": home(t, mine)}},
		"another DOCKER_HOST": {tcp, map[string]string{"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_CERT_PATH": mine}},
	} {
		if c, err := over(test.url, test.env).Read(t.Context(), []string{"/services"}); err != nil || len(c.Put) != 2 {
			t.Errorf("%s: got %+v, %v, want two keys", name, c, err)
		}
	}
	for name, test := range map[string]struct{ certs, want string }{
		"no TLS":                   {"", "Client sent an HTTP request to an HTTPS server"},
		"a stranger's certificate": {folder(t, certs.CA, strangers.ClientCert, strangers.ClientKey), "check your TLS client certification settings"},
		"an engine of a stranger":  {folder(t, strangers.CA, certs.ClientCert, certs.ClientKey), "certificate signed by unknown authority"},
	} {
		_, err := over(tcp, map[string]string{"DOCKER_CERT_PATH": test.certs}).Read(t.Context(), []string{"/services"})
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "docker: ") {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// folder has certificates by the names that Docker's client knows.
func folder(t *testing.T, ca, cert, key string) string {
	t.Helper()
	dir := t.TempDir()
	for name, from := range map[string]string{"ca.pem": ca, "cert.pem": cert, "key.pem": key} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// home is a home whose .docker is that folder.
func home(t *testing.T, docker string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(docker, filepath.Join(dir, ".docker")); err != nil {
		t.Fatal(err)
	}
	return dir
}
