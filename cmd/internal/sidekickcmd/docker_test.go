//go:build containers

package sidekickcmd_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/catalog"
	"muster/internal/dockertest"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// One process announces every labelled container of the machine, under one lease,
// and withdraws what stops, is not healthy any more, or fails its check.
func TestContainersAreAnnounced(t *testing.T) {
	e := dockertest.Start(t)
	etcd := etcdtest.Start(t)
	plain := e.Image(t, "muster/internal/docker/testdata/app", "EXPOSE 8080")
	checked := e.Image(t, "muster/internal/docker/testdata/app", "EXPOSE 8080",
		`HEALTHCHECK --interval=200ms --timeout=30s --retries=1 CMD ["/app", "check"]`)
	prefix := fmt.Sprintf("announced-%d-", os.Getpid())
	run := func(name, image string, flags ...string) {
		t.Helper()
		args := append([]string{"run", "-d", "--name", prefix + name, "-p", e.Host + "::8080", "--label", "muster.service=web"}, flags...)
		e.Docker(t, append(args, image)...)
	}
	// announced is what etcd has, by container: the address and the metadata.
	announced := func() map[string]catalog.Announcement {
		resp, err := etcd.Client().Get(t.Context(), "/services", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		values, found := make(map[string]string), make(map[string]catalog.Announcement)
		for _, kv := range resp.Kvs {
			values[string(kv.Key)] = string(kv.Value)
		}
		for key, value := range values {
			id, ok := strings.CutPrefix(key, "/services/web/")
			if !ok {
				continue
			}
			a, err := catalog.ParseMetadata(values["/services.meta/web/"+id])
			if err != nil || a.Addr != value {
				t.Errorf("%s: got %q and %+v, %v", id, value, a, err)
			}
			name, _, _ := strings.Cut(id[strings.Index(id, prefix)+len(prefix):], ":")
			found[name] = a
		}
		return found
	}
	until := func(want ...string) {
		t.Helper()
		proctest.Eventually(t, fmt.Sprintf("%q announced", want), func() bool {
			return slices.Equal(slices.Sorted(maps.Keys(announced())), want)
		})
	}
	socket := filepath.Join(t.TempDir(), "status")
	p := proctest.Start(t, "sidekick", []string{"DOCKER_HOST=unix://" + e.Socket(), "HOST_IP=" + e.Host, "MUSTER_CONFIG=/etc/muster/muster.toml"}, slim(t),
		"-docker", "-store", "etcd://"+etcd.Addr(), "-drain", "100ms", "-zone", "z1", "-tag", "all", "-status", "unix:"+socket)

	run("a", plain, "--label", "muster.tag=blue", "--label", "muster.route=example.com/", "--label", "muster.health=http:/", "--label", "muster.weight=7")
	run("b", checked)
	run("wrong", plain, "--label", "muster.weight=x")
	p.WaitFor(`container=` + prefix + `wrong err="label \"muster.weight\": \"x\": want 0 to 65535"`)
	until("a")
	if a := announced()["a"]; a.Addr != e.Published(t, prefix+"a", 8080) || a.Zone != "z1" || !slices.Equal(a.Tags, []string{"blue"}) ||
		!slices.Equal(a.Routes, []string{"example.com/"}) || a.Weight != 7 || a.Health == nil || a.Health.HTTP != "/" {
		t.Errorf("got %+v: want what its labels say over the flags", a)
	}
	e.Docker(t, "exec", prefix+"b", "/app", "well")
	until("a", "b")
	if b := announced()["b"]; !slices.Equal(b.Tags, []string{"all"}) || b.Weight != catalog.DefaultWeight || b.Health == nil || !b.Health.TCP {
		t.Errorf("got %+v: want what the flags say", b)
	}
	if leases, err := etcd.Client().Leases(t.Context()); err != nil || len(leases.Leases) != 1 {
		t.Errorf("leases: got %v, %v: want one", leases, err)
	}
	e.Docker(t, "exec", prefix+"b", "/app", "ill")
	until("a")
	e.Docker(t, "exec", prefix+"b", "/app", "well")
	until("a", "b")
	e.Docker(t, "stop", prefix+"a")
	until("b")
	e.Docker(t, "start", prefix+"a") // at another port
	until("a", "b")

	// An engine that is away takes nothing with it.
	before := revisions(t, etcd)
	e.Stop(t, syscall.SIGKILL)
	p.WaitFor("the engine is away, what it told last stays announced")
	if now := revisions(t, etcd); !maps.Equal(now, before) {
		t.Errorf("the engine is away: got %v: want %v", now, before)
	}
	e.Start(t)
	p.WaitFor("the engine is back")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		t.Errorf("ended with code %d, want 0", code)
	}
	if now := revisions(t, etcd); len(now) > 0 {
		t.Errorf("after the end: got %v: want nothing", now)
	}
}
