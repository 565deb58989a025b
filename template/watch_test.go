package template

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/backends/etcd"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// watch runs Watch until the returned function is called.
func (f *folder) watch() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- f.engine.Watch(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	}
	return stop
}

// becomes waits for a file to be text.
func (f *folder) becomes(name, text string) {
	f.t.Helper()
	proctest.Eventually(f.t, fmt.Sprintf("%s is %q", name, text), func() bool {
		got, err := os.ReadFile(f.path(name))
		return err == nil && string(got) == text
	})
}

func (f *folder) etcd(opts ...etcdtest.Option) *clientv3.Client {
	server := etcdtest.Start(f.t, opts...)
	store, err := etcd.New(etcd.Config{Nodes: []string{server.Addr()}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { store.Close() })
	f.engine.Store = store
	return server.Client()
}

func put(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	if _, err := client.Put(ctx, key, value); err != nil {
		t.Fatal(err)
	}
}

// One changed key among 10,000 does not read the tree again; nor do more
// resources over the same keys.
func TestAChangeReadsNothingAgain(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/tree\"]\n", `{{getv "/tree/5000"}} {{len (gets "/tree/*")}}`, "")
	const resources = 10
	for i := range resources {
		f.write(fmt.Sprintf("conf.d/more%d.toml", i), fmt.Sprintf("[template]\nsrc = 't'\ndest = %q\nkeys = ['/tree']\n", f.path(fmt.Sprint("out/more", i))))
	}
	client := f.etcd()
	ctx, cancel := context.WithTimeout(t.Context(), 2*proctest.Patience)
	defer cancel()
	for i := 0; i < 10_000; i += 100 {
		var ops []clientv3.Op
		for j := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/tree/%d", i+j), "old"))
		}
		if _, err := client.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	addr := client.Endpoints()[0]
	addr = strings.TrimPrefix(addr, "http://")
	before := counted(t, addr, ranges)
	stop := f.watch()
	defer stop()
	f.becomes("out/dest", "old 10000")
	for i := range resources {
		f.becomes(fmt.Sprint("out/more", i), "old 10000")
	}
	start := counted(t, addr, ranges)
	if n := start - before; n > 4 {
		t.Errorf("%d reads for %d resources over the same keys, want one watch's", n, resources+1)
	}
	for i := range 5 {
		put(t, client, "/tree/5000", fmt.Sprint("new", i))
		f.becomes("out/dest", fmt.Sprintf("new%d 10000", i))
	}
	for i := range resources {
		f.becomes(fmt.Sprint("out/more", i), "new4 10000")
	}
	if n := counted(t, addr, ranges) - start; n != 0 && f.count(StoreFailed) == 0 { // on a busy machine etcd may be given up for a moment
		t.Errorf("%d reads for 5 changes, want none", n)
	}
}

// reload_cmd runs at most once a second, the file is new at once, and the last
// state is always applied: at the end of the second, or of the engine.
func TestReloadsArePaced(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/n\"]\nreload_cmd = \"cat {{.dest}} >> RELOADS; date +%s%N >> TIMES\"\n", "{{getv \"/n\"}}\n", "")
	resource, _ := os.ReadFile(f.path("conf.d/r.toml"))
	f.write("conf.d/r.toml", strings.NewReplacer("RELOADS", f.path("reloads"), "TIMES", f.path("times")).Replace(string(resource)))
	client := f.etcd()
	f.engine.Quiet = -1
	put(t, client, "/n", "0")
	stop := f.watch()
	f.becomes("out/dest", "0\n")
	for i := 1; i <= 30; i++ {
		put(t, client, "/n", fmt.Sprint(i))
		f.becomes("out/dest", fmt.Sprintf("%d\n", i)) // each is rendered
	}
	proctest.Eventually(t, "a reload with the last state", func() bool {
		text, _ := os.ReadFile(f.path("reloads"))
		return strings.HasSuffix(string(text), "\n30\n")
	})
	put(t, client, "/n", "end")
	f.becomes("out/dest", "end\n")
	stop() // within the second after the last reload, or not: it is applied
	text, _ := os.ReadFile(f.path("reloads"))
	if !strings.HasSuffix(string(text), "\n30\nend\n") {
		t.Errorf("reloaded with %q, want 30 and end at last", text)
	}
	times, _ := os.ReadFile(f.path("times"))
	var last int
	lines := strings.Fields(string(times))
	for i, line := range lines {
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		// The pause begins when a command has ended; the one at the end doesn't wait. date's
		// clock may be set a little meanwhile.
		if gap := time.Duration(n - last); i > 0 && i < len(lines)-1 && gap < reloadPause-10*time.Millisecond {
			t.Errorf("reload %d came %v after the one before", i, gap)
		}
		last = n
	}
	if f.count(Postponed) == 0 {
		t.Error("no reload was put off by 30 changes")
	}
}

// The same under Every, whose passes come faster here than reloads may.
func TestReloadsArePacedUnderEvery(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/\"]\nreload_cmd = \"cat {{.dest}} >> RELOADS\"\n", "{{getv \"/n\"}}\n", "n: 0")
	resource, _ := os.ReadFile(f.path("conf.d/r.toml"))
	f.write("conf.d/r.toml", strings.ReplaceAll(string(resource), "RELOADS", f.path("reloads")))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.engine.Every(ctx, 10*time.Millisecond) }()
	f.becomes("out/dest", "0\n")
	f.write("data.yaml", "n: 1")
	f.becomes("reloads", "0\n1\n")
	f.write("data.yaml", "n: 2")
	f.becomes("out/dest", "2\n")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.want("reloads", "0\n1\n2\n")
}

// Reread takes in new resources, ends those that are gone, renders changed
// templates, and leaves a resource that got broken as it was.
func TestReread(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/\"]\n", `r {{getv "/a"}}`, "a: 1")
	more := func(name, dest string) string {
		return fmt.Sprintf("[template]\nsrc = %q\ndest = %q\nkeys = ['/']\n", name, f.path(dest))
	}
	f.write("conf.d/gone.toml", more("t", "out/gone"))
	f.write("conf.d/breaks.toml", more("t", "out/breaks"))
	f.write("conf.d/moves.toml", more("t", "out/moves"))
	stop := f.watch()
	defer stop()
	for _, dest := range []string{"out/dest", "out/gone", "out/breaks", "out/moves"} {
		f.becomes(dest, "r 1")
	}
	if err := os.Remove(f.path("conf.d/gone.toml")); err != nil {
		t.Fatal(err)
	}
	f.write("conf.d/breaks.toml", "[template")
	f.write("conf.d/moves.toml", more("t2", "out/moved"))
	f.write("conf.d/new.toml", more("t2", "out/new"))
	f.write("templates/t2", `t2 {{getv "/a"}}`)
	f.write("templates/t", `t {{getv "/a"}}`)
	f.engine.Reread()
	f.becomes("out/new", "t2 1")
	f.becomes("out/moved", "t2 1")
	f.becomes("out/dest", "t 1")
	f.write("data.yaml", "a: 2")
	f.becomes("out/new", "t2 2")
	f.becomes("out/moved", "t2 2")
	f.becomes("out/dest", "t 2")
	f.becomes("out/breaks", "t 2")
	f.want("out/gone", "r 1")
	f.want("out/moves", "r 1")
	var files []string
	for _, s := range f.engine.Status() {
		files = append(files, strings.TrimPrefix(s.File, f.path("conf.d")+"/"))
		if broken := strings.HasSuffix(s.File, "breaks.toml"); broken != (s.Failures > 0) {
			t.Errorf("%+v: want failures of breaks.toml alone", s)
		}
	}
	if got := strings.Join(files, " "); got != "breaks.toml moves.toml new.toml r.toml" {
		t.Errorf("status of %s, want breaks, moves, new and r", got)
	}

	// conf.d without any: everything ends, and comes back.
	for _, name := range []string{"breaks", "moves", "new", "r"} {
		if err := os.Rename(f.path("conf.d/"+name+".toml"), f.path("conf.d/"+name+".off")); err != nil {
			t.Fatal(err)
		}
	}
	f.engine.Reread()
	proctest.Eventually(t, "no status", func() bool { return len(f.engine.Status()) == 0 })
	f.write("data.yaml", "a: 3")
	if err := os.Rename(f.path("conf.d/new.off"), f.path("conf.d/new.toml")); err != nil {
		t.Fatal(err)
	}
	f.engine.Reread()
	f.becomes("out/new", "t2 3")
	f.want("out/dest", "t 2")
}

// A resource that fails, and one whose command hangs, hold up no other; both
// are visible.
func TestOneFailsTheOthersGoOn(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/\"]\n", `{{getv "/a"}}`, "a: 1")
	f.write("conf.d/fails.toml", fmt.Sprintf("[template]\nsrc = 'fails'\ndest = %q\nkeys = ['/']\n", f.path("out/fails")))
	f.write("templates/fails", `{{getv "/b"}}`)
	f.write("conf.d/hangs.toml", fmt.Sprintf("[template]\nsrc = 't'\ndest = %q\nkeys = ['/']\ncheck_cmd = 'touch %s; sleep 300'\n", f.path("out/hangs"), f.path("hanging")))
	f.engine.CheckTimeout = time.Second // of which it takes all
	stop := f.watch()
	defer stop()
	f.becomes("hanging", "")
	f.becomes("out/dest", "1")
	f.write("data.yaml", "a: 2")
	f.becomes("out/dest", "2")
	of := func(name string) Status {
		for _, s := range f.engine.Status() {
			if strings.HasSuffix(s.File, name) {
				return s
			}
		}
		return Status{}
	}
	proctest.Eventually(t, "the status of fails.toml", func() bool { return of("fails.toml").Err != "" })
	if s := of("fails.toml"); !strings.Contains(s.Err, "key does not exist: /b") || s.Failing.IsZero() || s.Updates != 0 {
		t.Errorf("status is %+v, want the missing key and since when", s)
	}
	proctest.Eventually(t, "the status of hangs.toml", func() bool { return strings.Contains(of("hangs.toml").Err, "ended after 1s") })
	f.write("data.yaml", "a: 2\nb: now") // it recovers by itself
	f.becomes("out/fails", "now")
	proctest.Eventually(t, "a good status", func() bool { s := of("fails.toml"); return s.Err == "" && s.Failing.IsZero() && s.Updates == 1 })
}

// When the engine is told to end in the middle of a pass, the pass is finished.
func TestTheRenderThatRunsIsFinished(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/\"]\ncheck_cmd = \"touch CHECKING; while [ ! -e GO ]; do sleep 0.05; done\"\nreload_cmd = \"touch RELOADED\"\n", `{{getv "/a"}}`, "a: 1")
	resource, _ := os.ReadFile(f.path("conf.d/r.toml"))
	f.write("conf.d/r.toml", strings.NewReplacer("CHECKING", f.path("checking"), "GO", f.path("go"), "RELOADED", f.path("reloaded")).Replace(string(resource)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.engine.Watch(ctx) }()
	f.becomes("checking", "")
	cancel()
	f.write("go", "")
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.want("out/dest", "1")
	f.want("reloaded", "")
}

// A flaky store fails now and then and counts its watches.
type flaky struct {
	backends.Store
	watches atomic.Int64
	fail    chan error
}

func (s *flaky) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		s.watches.Add(1)
		changes := make(chan backends.Change)
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			defer close(changes)
			for c := range s.Store.Watch(inner, prefixes) {
				select {
				case changes <- c:
				case <-inner.Done():
					return
				}
			}
		}()
		for {
			select {
			case err := <-s.fail:
				if !yield(backends.Change{}, err) {
					return
				}
			case c, ok := <-changes:
				if !ok || !yield(c, nil) {
					return
				}
			}
		}
	}
}

// A store that is away is in the status of those that need it, until it is back.
func TestStoreIsAwayInTheStatus(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/\"]\n", `{{getv "/a"}}`, "a: 1")
	f.write("conf.d/r2.toml", fmt.Sprintf("[template]\nsrc = 't'\ndest = %q\nkeys = ['/']\n", f.path("out/dest2")))
	s := &flaky{Store: f.engine.Store, fail: make(chan error)}
	f.engine.Store = s
	stop := f.watch()
	f.becomes("out/dest", "1")
	f.becomes("out/dest2", "1")
	s.fail <- errors.New("store is on fire")
	away := func(n int) func() bool {
		return func() bool {
			var got int
			for _, s := range f.engine.Status() {
				if s.StoreErr == "store is on fire" {
					got++
				}
			}
			return got == n
		}
	}
	proctest.Eventually(t, "both say so", func() bool { return f.count(StoreFailed) == 2 })
	proctest.Eventually(t, "both are well again", away(0)) // the file store answers each second
	if n := s.watches.Load(); n != 1 {
		t.Errorf("%d watches for two resources with the same keys, want one", n)
	}
	stop()
}

// A reader that comes late gets all that is known first, and when the last one
// has left the watch ends.
func TestSharedWatch(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "", "", "a: 1")
	s := &flaky{Store: f.engine.Store, fail: make(chan error)}
	sh := share(s)
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	first := backends.NewFeed(ctx, sh, "/a", "/b")
	next := func(feed *backends.Feed) backends.Change {
		t.Helper()
		c, err := feed.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := next(first); !c.Full || len(c.Put) != 1 {
		t.Fatalf("first: %+v, want /a in full", c)
	}
	second := backends.NewFeed(ctx, sh, "/b", "/a", "/a") // the same keys
	if c := next(second); !c.Full || len(c.Put) != 1 || c.Put[0].Value != "1" {
		t.Fatalf("second: %+v, want /a in full", c)
	}
	other := backends.NewFeed(ctx, sh, "/b")
	next(other)
	f.write("data.yaml", "a: 2")
	for _, feed := range []*backends.Feed{first, second} {
		for {
			if c := next(feed); len(c.Put) > 0 {
				if c.Full || c.Put[0].Value != "2" {
					t.Errorf("got %+v, want the change alone", c)
				}
				break
			}
		}
	}
	first.Close()
	if n := s.watches.Load(); n != 2 {
		t.Errorf("%d watches of the store, want one for each set of keys", n)
	}
	second.Close()
	other.Close()
	if len(sh.sets) != 0 {
		t.Errorf("%d watches are left", len(sh.sets))
	}
	again := backends.NewFeed(ctx, sh, "/a")
	if c := next(again); !c.Full || c.Put[0].Value != "2" {
		t.Errorf("again: %+v, want /a as it is now", c)
	}
	again.Close()
}

// Whatever happens to the etcd, the file ends as it says, without a restart.
func TestEtcdHeals(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "keys = [\"/n\"]\n", `{{getv "/n" "none"}}`, "")
	server := etcdtest.Start(t)
	store, err := etcd.New(etcd.Config{Nodes: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f.engine.Store = store
	server.Kill() // it starts later
	stop := f.watch()
	defer stop()
	proctest.Eventually(t, "the news that the store is away", func() bool { return f.count(StoreFailed) == 1 })
	server.Restart()
	f.becomes("out/dest", "none")
	put(t, server.Client(), "/n", "1")
	f.becomes("out/dest", "1")

	// While confd can't see it, the value changes, and the change is compacted.
	server.Kill()
	server.Restart()
	for i := range 10 {
		put(t, server.Client(), "/n", fmt.Sprint("kept ", i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	resp, err := server.Client().Get(ctx, "/n")
	if err == nil {
		_, err = server.Client().Compact(ctx, resp.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.becomes("out/dest", "kept 9")

	// It hangs for a while.
	server.Stop()
	proctest.Eventually(t, "the news that it hangs", func() bool {
		return strings.Contains(f.engine.Status()[0].StoreErr, "etcd")
	})
	server.Cont()
	put(t, server.Client(), "/n", "thawed")
	f.becomes("out/dest", "thawed")

	// Somebody starts over with an empty one.
	server.Wipe()
	server.Restart()
	f.becomes("out/dest", "none")
}
