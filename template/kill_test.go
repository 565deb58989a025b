package template_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// A victim is a confd that follows /n in an etcd and is killed again and again.
type victim struct {
	t            *testing.T
	binary, dir  string
	etcd         *etcdtest.Server
	lines        int
	put          atomic.Int64 // the version put last
	seen         int          // the version seen last
	renders      int
	reads, kills int
}

func newVictim(t *testing.T, lines int) *victim {
	v := &victim{t: t, binary: buildConfd(t), dir: t.TempDir(), etcd: etcdtest.Start(t), lines: lines}
	for name, text := range map[string]string{
		"conf.d/r.toml": fmt.Sprintf("[template]\nsrc = 't'\ndest = %q\nkeys = ['/n']\n", v.dest()),
		"templates/t":   "{{$n := getv \"/n\"}}{{range seq 1 " + strconv.Itoa(lines) + "}}{{$n}}\n{{end}}",
	} {
		path := filepath.Join(v.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(v.dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	v.next()
	return v
}

func (v *victim) dest() string { return filepath.Join(v.dir, "out", "dest") }

// version is how a number stands in the store; all are equally long.
func version(n int) string { return fmt.Sprintf("%012d", n) }

// next puts the next version.
func (v *victim) next() {
	ctx, cancel := context.WithTimeout(v.t.Context(), proctest.Patience)
	defer cancel()
	if _, err := v.etcd.Client().Put(ctx, "/n", version(int(v.put.Load())+1)); err != nil {
		v.t.Error(err)
		return
	}
	v.put.Add(1)
}

// look reads dest, which must be one whole version and none before the last.
func (v *victim) look(when string) {
	v.t.Helper()
	text, err := os.ReadFile(v.dest())
	if os.IsNotExist(err) && v.seen == 0 {
		return
	}
	v.reads++
	first, _, _ := strings.Cut(string(text), "\n")
	n, e := strconv.Atoi(first)
	if err != nil || e != nil || string(text) != strings.Repeat(version(n)+"\n", v.lines) {
		v.t.Fatalf("%s: dest is no version, but %d bytes that begin with %.40q: %v", when, len(text), text, err)
	}
	if n < v.seen || n > int(v.put.Load())+1 {
		v.t.Fatalf("%s: dest has version %d, after %d was seen and %d was put", when, n, v.seen, v.put.Load())
	}
	v.seen = n
}

// live runs confd until it has rendered once, and then at most for a while, with a version after the other, and kills it.
func (v *victim) live(atMost time.Duration, looking bool) {
	confd := proctest.Start(v.t, "confd", nil, v.binary, "-watch", "-debounce", "0", "-node", v.etcd.Addr(),
		"-confdir", v.dir, "-config-file", v.dir+"/none")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				v.next()
			}
		}
	})
	confd.WaitFor("has been updated")
	for end := time.Now().Add(rand.N(atMost)); time.Now().Before(end); {
		if looking {
			v.look("while confd runs")
		}
		time.Sleep(time.Millisecond)
	}
	confd.Signal(syscall.SIGKILL)
	if code := confd.Wait(); code != 128+9 {
		v.t.Fatalf("exit %d, want that it was killed", code)
	}
	close(stop)
	wg.Wait()
	v.kills++
	v.renders += strings.Count(confd.Output(), "has been updated")
	v.look("after a kill")
}

// well runs confd once more: what the killed ones left is in nobody's way.
func (v *victim) well() {
	v.t.Helper()
	once := proctest.Start(v.t, "confd", nil, v.binary, "-onetime", "-node", v.etcd.Addr(), "-confdir", v.dir, "-config-file", v.dir+"/none")
	if code := once.Wait(); code != 0 {
		v.t.Errorf("afterwards: exit %d, want 0", code)
	}
	v.look("afterwards")
	if v.seen != int(v.put.Load()) {
		v.t.Errorf("afterwards: version %d, want %d, the last", v.seen, v.put.Load())
	}
	left, err := os.ReadDir(filepath.Dir(v.dest()))
	if err != nil {
		v.t.Fatal(err)
	}
	for _, entry := range left {
		if name := entry.Name(); name != "dest" && !strings.HasPrefix(name, ".dest") {
			v.t.Errorf("%s was left", name)
		}
	}
	if stages := len(left) - 1; stages > v.kills {
		v.t.Errorf("%d stage files are left of %d kills", stages, v.kills)
	}
	v.t.Logf("%d renders, %d kills, %d looks, %d stage files left", v.renders, v.kills, v.reads, len(left)-1)
}

// Whenever confd is killed, dest is the old text or the new one, as is what
// somebody reads meanwhile.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 10_000) // 130 kB, several writes
	for v.renders < 500 {
		v.live(time.Second, true)
	}
	v.well()
}

// A mounted dest can't be replaced and is written in place: where both texts
// are as long and no longer than a page, a kill leaves none in between.
func TestKilledAtAnyMomentOnAMount(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 300)
	outside := filepath.Join(v.dir, "outside")
	text := strings.Repeat(version(0)+"\n", v.lines)
	for _, path := range []string{outside, v.dest()} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mountOver(t, outside, v.dest())
	for v.kills < 15 {
		v.live(200*time.Millisecond, false)
	}
	v.well()
}
