package template

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/backends/etcd"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// counted is one of etcd's own counters, summed over those of its labels that
// match.
func counted(t *testing.T, addr, metric string) (n int) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^`+metric+` (\S+)$`).FindAllSubmatch(text, -1)
	if found == nil {
		t.Fatalf("etcd counts no %s", metric)
	}
	for _, m := range found {
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		n += int(v)
	}
	return n
}

// Calls of etcd, and the ranges of keys that it was asked for in them.
const (
	ranges  = `etcd_mvcc_range_total`
	calls   = `grpc_server_started_total{[^}]*grpc_method="(?:Range|Txn)"[^}]*}`
	streams = `grpc_server_started_total{[^}]*grpc_method="Watch"[^}]*}`
)

// answers waits until the connection is there and the user logged in, which on a
// busy machine takes longer than a store gives it.
func answers(t *testing.T, s backends.Store, prefix string) {
	t.Helper()
	proctest.Eventually(t, "an answer of the store", func() bool {
		_, err := s.(backends.Together).Read(t.Context(), []string{prefix})
		return err == nil
	})
}

// resource writes one more resource over keys.
func (f *folder) resource(name, src, dest, keys, more string) {
	f.t.Helper()
	f.write("conf.d/"+name+".toml", fmt.Sprintf("[template]\nsrc = %q\ndest = %q\nkeys = [%s]\n%s", src, f.path(dest), keys, more))
}

// A pass over many resources asks etcd once, and watches nothing.
func TestOnePassReadsOnce(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/r\"]\n", `{{len (gets "/r/*/*")}}`, "")
	client := f.etcd()
	addr := strings.TrimPrefix(client.Endpoints()[0], "http://")
	const resources = 50
	for i := range resources {
		put(t, client, fmt.Sprintf("/r/%d/k", i), fmt.Sprint("v", i))
		f.write(fmt.Sprint("templates/", i), fmt.Sprintf(`{{getv "/r/%d/k"}}`, i))
		f.resource(fmt.Sprint("r", i), fmt.Sprint(i), fmt.Sprint("out/", i), fmt.Sprintf(`"/r/%d", "/none"`, i), "")
	}
	answers(t, f.engine.Store, "/r")
	before, watched := counted(t, addr, calls), counted(t, addr, streams)
	if err := f.engine.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One to see whether it answers, one to read; 51 sets are 103 ranges, of which
	// 101 lie in /r.
	if n := counted(t, addr, calls) - before; n != 2 {
		t.Errorf("%d calls for %d resources, want 2", n, resources+1)
	}
	if n := counted(t, addr, streams) - watched; n != 0 {
		t.Errorf("%d watch streams, want none", n)
	}
	f.want("out/dest", "50")
	for i := range resources {
		f.want(fmt.Sprint("out/", i), fmt.Sprint("v", i))
	}
}

// oneByOne hides that a store can be read for all at once.
type oneByOne struct{ backends.Store }

// What is prepared ahead, and read once for all, is not seen: events, their
// order, and files are those of one resource after the other.
func TestOnePassLooksLikeOneAfterAnother(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	run := func(wrap func(backends.Store) backends.Store) (log []string, f *folder) {
		f = newFolder(t, "keys = [\"/k\"]\n", `{{getv "/k"}}`, "")
		store, err := etcd.New(etcd.Config{Nodes: []string{server.Addr()}})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		answers(t, store, "/k")
		f.engine.Store = wrap(store)
		put(t, server.Client(), "/k", "value")
		put(t, server.Client(), "/told", "before")
		traps(f)

		// A reload_cmd changes a key.
		ctx, cancel := context.WithTimeout(t.Context(), 2*proctest.Patience)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- f.engine.Once(ctx) }()
		f.becomes("asks", "")
		put(t, server.Client(), "/told", "after")
		f.write("told", "")
		errs := []error{<-done, f.engine.Once(ctx)} // the second finds most in sync
		for _, err := range errs {
			log = append(log, anywhere(f, fmt.Sprint(err)))
		}
		for _, ev := range f.events {
			line := fmt.Sprintf("%d %s %s %s %s %s %s", ev.What, ev.Path, ev.Key, ev.Text, ev.Field, ev.Have, ev.Want)
			if ev.Resource != nil {
				line = filepath.Base(ev.Resource.File) + " " + line
			}
			if ev.Err != nil {
				line += ev.Err.Error()
			}
			log = append(log, anywhere(f, line))
		}
		return log, f
	}
	ahead, f := run(func(s backends.Store) backends.Store { return s })
	after, g := run(func(s backends.Store) backends.Store { return oneByOne{s} })
	if diff := cmp.Diff(after, ahead); diff != "" {
		t.Errorf("-one after another +as it is\n%s", diff)
	}
	if diff := cmp.Diff(contents(t, g), contents(t, f)); diff != "" {
		t.Errorf("-one after another +as it is\n%s", diff)
	}
	for name, want := range map[string]string{
		"out/chained": "made of value", "out/there": "true", "out/included": "value",
		"out/twice": "second", "out/told": "after", "out/rewritten": "rewritten", "out/folder/dest": "value",
		"out/mode": "0600 -rw-------", "out/linked": "value",
	} {
		f.want(name, want)
	}
	if log := strings.Join(ahead, "\n"); strings.Count(log, "\n") < 300 || f.count(Failed) != 8 {
		t.Errorf("%d lines, %d failures: want more than 300, and 4 in each pass", strings.Count(log, "\n"), f.count(Failed))
	}
}

// traps are resources one of which changes what the next is made of, and fillers,
// so that there are several windows.
func traps(f *folder) {
	value := `"/k"`
	f.write("templates/value", `{{getv "/k"}}`)
	for i := range 2*window + 5 {
		f.resource(fmt.Sprintf("a%03d", i), "value", fmt.Sprint("out/a", i), value, "")
	}
	f.write("templates/make", `made of {{"{{getv \"/k\"}}"}}`)
	f.write("templates/made", `old`)
	f.resource("b1", "make", "templates/made", value, "")
	f.resource("b2", "made", "out/chained", value, "")

	f.write("templates/there", `{{fileExists "`+f.path("out/flag")+`"}}`)
	f.resource("c1", "value", "out/flag", value, "")
	f.resource("c2", "there", "out/there", value, "")

	f.write("templates/part", `old`)
	f.write("templates/includes", `{{include "part"}}`)
	f.resource("d1", "value", "templates/part", value, "")
	f.resource("d2", "includes", "out/included", value, "")

	f.write("templates/first", "first")
	f.write("templates/second", "second")
	f.resource("e1", "first", "out/twice", value, "")
	f.resource("e2", "second", "out/twice", value, "")

	f.write("templates/mode1", "0600")
	f.write("templates/mode2", "0600 -rw-------")
	f.resource("f1", "mode1", "out/mode", value, "mode = '0600'\n")
	f.resource("f2", "mode2", "out/mode", value, "")

	f.write("templates/broken", "{{")
	f.write("templates/nokey", `{{getv "/no/such"}}`)
	f.resource("g1", "nosuch", "out/g1", value, "")
	f.resource("g2", "broken", "out/g2", value, "")
	f.resource("g3", "nokey", "out/g3", value, "")
	f.resource("g4", "value", "out/g4", value, "check_cmd = 'echo {{.dest}}; false'\n")

	f.write("templates/told", `{{getv "/told"}}`)
	f.resource("h0", "value", "out/h0", value, "")
	f.resource("h1", "value", "out/asks", value, fmt.Sprintf("reload_cmd = 'touch %s; while [ ! -e %s ]; do sleep 0.05; done'\n", f.path("asks"), f.path("told")))
	f.resource("h2", "told", "out/told", `"/told"`, "")

	f.write("templates/rewrite", "rewritten")
	f.write("templates/rewritten", "old")
	f.resource("i1", "rewrite", "out/rewrite", value, fmt.Sprintf("reload_cmd = 'cp {{.dest}} %s'\n", f.path("templates/rewritten")))
	f.resource("i2", "rewritten", "out/rewritten", value, "")

	f.resource("j1", "value", "out/maker", value, "reload_cmd = 'mkdir "+f.path("out/folder")+"'\n")
	f.resource("j2", "value", "out/folder/dest", value, "")

	f.write("outside", "old")
	if err := os.Symlink(f.path("outside"), f.path("out/linked")); err != nil {
		f.t.Fatal(err)
	}
	f.resource("k1", "value", "outside", value, "")
	f.resource("k2", "value", "out/linked", value, "")
}

// anywhere is text without what differs from run to run: the folder, the names of
// stage files and the time.
func anywhere(f *folder, text string) string {
	text = strings.ReplaceAll(text, f.dir, "DIR")
	return regexp.MustCompile(`/\.(\w+?)\d{6,}`).ReplaceAllString(text, "/.$1#")
}

// contents is what is in the folder: names, modes and texts.
func contents(t *testing.T, f *folder) (list []string) {
	t.Helper()
	err := filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		list = append(list, fmt.Sprint(anywhere(f, path), " ", info.Mode(), " ", anywhere(f, string(text))))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// etcdOfMine makes an etcd the store, as a user who may read only what lies below
// /mine, where k is 1. Its client may do all.
func (f *folder) etcdOfMine() *clientv3.Client {
	f.t.Helper()
	server := etcdtest.Start(f.t, etcdtest.Auth("confd", "secret", "/mine/"))
	store, err := etcd.New(etcd.Config{Nodes: []string{server.Addr()}, User: "confd", Password: "secret"})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { store.Close() })
	f.engine.Store = store
	put(f.t, server.Client(), "/mine/k", "1")
	answers(f.t, store, "/mine/k/x")
	return server.Client()
}

// A user who may not read all of it gets what is allowed.
func TestOnePassOfWhatIsAllowed(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/mine\"]\n", `{{getv "/mine/k"}}`, "")
	f.resource("q", "t", "out/other", `"/other"`, "")
	f.resource("s", "t", "out/also", `"/mine"`, "")
	f.etcdOfMine()
	if err := f.engine.Once(t.Context()); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("got %v, want that one is denied", err)
	}
	f.want("out/dest", "1")
	f.want("out/also", "1")
	if n := f.count(Failed); n != 1 {
		t.Errorf("%d failed, want the one that is not allowed", n)
	}
}

// What is in sync is not written: no stage file, and dest's folder stays as it
// was.
func TestInSyncWritesNothing(t *testing.T) {
	f := newFolder(t, "keys = [\"/\"]\n", `{{getv "/a"}}`, "a: 1")
	if err := f.engine.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(f.path("out"), long, long); err != nil {
		t.Fatal(err)
	}
	if err := f.engine.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(f.path("out")); err != nil || !info.ModTime().Equal(long) {
		t.Errorf("the folder was touched: %v, %v", info.ModTime(), err)
	}
	if n := f.count(InSync); n != 1 {
		t.Errorf("in sync %d times, want once", n)
	}
	if err := os.Chmod(f.path("out/dest"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.write("conf.d/r.toml", "[template]\nsrc = 't'\ndest = '"+f.path("out/dest")+"'\nkeys = ['/']\nmode = '0640'\n")
	if err := f.engine.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(f.path("out/dest")); err != nil || info.Mode() != 0o640 {
		t.Errorf("got mode %v, %v, want 0640 of the same text", info.Mode(), err)
	}
}
