package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/etcd"
	"muster/internal/etcdtest"
)

// events records what a plain watch of one member sees below a prefix, from its
// first revision on.
type events struct {
	mu   sync.Mutex
	list []string
}

func record(t testing.TB, s *etcdtest.Server, prefix string) *events {
	t.Helper()
	e := new(events)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	watch := s.Client().Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1))
	go func() {
		defer close(done)
		for r := range watch {
			e.mu.Lock()
			for _, ev := range r.Events {
				e.list = append(e.list, fmt.Sprintf("%s %s", ev.Type, ev.Kv.Key))
			}
			e.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return e
}

func (e *events) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

func (e *events) count(event string) (n int) {
	for _, ev := range e.all() {
		if ev == event {
			n++
		}
	}
	return n
}

// What others do to a key is put right: a put without a lease, which would stay
// for ever, and a delete. A key that was taken back stays away.
func TestForeignChangesArePutRight(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	var log backendtest.Logbook
	l := open(t, "etcd://"+s.Addr(), log.Logger()).Lease(time.Minute)
	hold(t, l)
	both := []backends.KV{{Key: "/services/web/a", Value: "h:1"}, {Key: "/services.meta/web/a", Value: "{}"}}
	if err := l.Write(within(t), both, nil); err != nil {
		t.Fatal(err)
	}
	ours := func(key, value string) func() bool {
		return func() bool { return get(t, s, key) == held{value, l.ID()} }
	}
	put(t, s, "/services/web/a", "foreign")
	eventually(t, "the value is ours again", ours("/services/web/a", "h:1"))
	del(t, s, "/services/web/a")
	eventually(t, "the key is there again", ours("/services/web/a", "h:1"))
	del(t, s, "/services.meta/web/a")
	eventually(t, "the metadata are there again", ours("/services.meta/web/a", "{}"))

	// What was taken back stays away.
	if err := l.Write(within(t), both[1:], []string{"/services/web/a"}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "/services.meta/web/a", "foreign")
	eventually(t, "the metadata are ours again", ours("/services.meta/web/a", "{}"))
	put(t, s, "/services/web/a", "an operator's")
	put(t, s, "/services.meta/web/a", "beside it")
	// What is repaired after that shows that it was let be.
	write(t, l, "/probe", "v")
	del(t, s, "/probe")
	eventually(t, "the other key is there again", ours("/probe", "v"))
	for key, value := range map[string]string{"/services/web/a": "an operator's", "/services.meta/web/a": "beside it"} {
		if got, want := get(t, s, key), (held{value: value}); got != want {
			t.Errorf("%s, taken back and taken by another: got %+v, want %+v", key, got, want)
		}
	}

	// At the end, too: what somebody put again as it was, without a lease, is
	// still ours to delete.
	put(t, s, "/services/web/b", "h:2")
	write(t, l, "/services/web/b", "h:2")
	if err := l.Write(within(t), nil, []string{"/services/web/b"}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "/services/web/b"); got != (held{}) {
		t.Errorf("after delete: got %+v, want nothing", got)
	}
}

// Somebody who deletes a key again and again is slowed down, not fought: two
// writes a second at first, and fewer.
func TestRepairsAreRare(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	l := open(t, "etcd://"+s.Addr(), nil).Lease(time.Minute)
	hold(t, l)
	seen := record(t, s, "/k")
	write(t, l, "/k", "v")
	began := time.Now()
	const deletes = 5
	for i := range deletes {
		del(t, s, "/k")
		eventually(t, "it is there again", func() bool { return seen.count("PUT /k") == i+2 })
	}
	// The first comes at once, then 0.5, 0.5, 0.5, 1 s apart.
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("%d repairs in %v, want at most 2 a second", deletes, took)
	}
}

// The second of two announcers is refused and told who holds the key; the first
// one's end does not take the second one's key away.
func TestTwoAnnouncersOfOneKey(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	store := open(t, "etcd://"+s.Addr(), nil)
	a := store.Lease(time.Minute)
	stopA := hold(t, a)
	keys := func(value, meta string) []backends.KV {
		return []backends.KV{{Key: "/services/web/1", Value: value}, {Key: "/services.meta/web/1", Value: meta}}
	}
	if err := a.Write(within(t), keys("h:1", `{"a":1}`), nil); err != nil {
		t.Fatal(err)
	}
	b := store.Lease(time.Minute)
	hold(t, b)
	err := b.Write(within(t), keys("h:2", `{"b":1}`), nil)
	want := fmt.Sprintf(`write "/services/web/1": "/services/web/1" is held by lease %x, with value "h:1"`, a.ID())
	if err == nil || err.Error() != want {
		t.Fatalf("the second announcer: got %v, want %s", err, want)
	}
	if got := get(t, s, "/services.meta/web/1"); got != (held{`{"a":1}`, a.ID()}) {
		t.Errorf("the metadata after a refusal: %+v, want the first one's", got)
	}

	// It insists: the first one does not fight for it, and its end changes nothing.
	boss := store.Lease(time.Minute)
	boss.TakeOver = true
	hold(t, boss)
	if err := boss.Write(within(t), keys("h:3", `{"c":1}`), nil); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(within(t), keys("", `draining`)[1:], []string{"/services/web/1"}); err != nil {
		t.Errorf("draining what another has taken: got %v, want it left alone", err)
	}
	if err := a.Write(within(t), nil, []string{"/services/web/1", "/services.meta/web/1"}); err != nil {
		t.Fatal(err)
	}
	stopA()
	if err := a.Revoke(within(t)); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"/services/web/1": "h:3", "/services.meta/web/1": `{"c":1}`} {
		if got, want := get(t, s, key), (held{value, boss.ID()}); got != want {
			t.Errorf("%s: got %+v, want %+v", key, got, want)
		}
	}
}

// A process that was killed and announces the same again under another lease is
// itself, whatever the metadata say; and when two of them live, the one that was
// put over says so, and puts the key back after the other has left.
func TestFormerSelfIsNotAConflict(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	var log backendtest.Logbook
	store := open(t, "etcd://"+s.Addr(), log.Logger())
	keys := func(meta string) []backends.KV {
		return []backends.KV{{Key: "/services.meta/web/1", Value: meta}, {Key: "/services/web/1", Value: "h:1"}}
	}
	a, b := store.Lease(time.Minute), store.Lease(time.Minute)
	hold(t, a)
	hold(t, b)
	if err := a.Write(within(t), keys("first"), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Write(within(t), keys("second"), nil); err != nil {
		t.Fatalf("the same value under another lease: %v", err)
	}
	if got, want := get(t, s, "/services.meta/web/1"), (held{"second", b.ID()}); got != want {
		t.Errorf("metadata: got %+v, want %+v", got, want)
	}
	// It was no former self: the first one lives, and says so.
	for _, line := range []string{
		`"another announces the same under this key, waiting until it ends" store=etcd key=/services/web/1 value=h:1 lease=` + fmt.Sprintf("%x", b.ID()),
		`"what stands beside the key is another's" store=etcd key=/services.meta/web/1 value=second`,
	} {
		eventually(t, "the first one says "+line, func() bool { return log.Count(line) == 1 })
	}
	if err := b.Revoke(within(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first one's keys are back", func() bool {
		return get(t, s, "/services/web/1") == held{"h:1", a.ID()} && get(t, s, "/services.meta/web/1") == held{"first", a.ID()}
	})
}

// A restart takes lease and keys up from the file, and nobody sees an event.
func TestLeaseFileMakesARestartSilent(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	store := open(t, "etcd://"+s.Addr(), nil)
	file := filepath.Join(t.TempDir(), "run", "web.lease")
	start := func() *etcd.Lease {
		l := store.Lease(time.Minute)
		l.File = file
		return l
	}
	a := start()
	stop := hold(t, a)
	both := []backends.KV{{Key: "/services/web/1", Value: "h:1"}, {Key: "/services.meta/web/1", Value: "{}"}}
	if err := a.Write(within(t), both, nil); err != nil {
		t.Fatal(err)
	}
	second := start()
	if err := second.Run(within(t)); err == nil {
		t.Error("a second process with the same file: got no error")
	}
	if err := a.Keep(within(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	revision := put(t, s, "/mark", "")

	b := start()
	if v, ok := b.Former("/services.meta/web/1"); !ok || v != "{}" {
		t.Errorf("Former: got %q, %v, want what was written", v, ok)
	}
	hold(t, b)
	if err := b.Write(within(t), both, nil); err != nil {
		t.Fatal(err)
	}
	if b.ID() != a.ID() {
		t.Errorf("lease: got %x, want the former one's %x", b.ID(), a.ID())
	}
	if next := put(t, s, "/mark", ""); next != revision+1 {
		t.Errorf("a restart made %d changes, want none", next-revision-1)
	}
	if err := b.Revoke(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file after Revoke: %v, want it gone", err)
	}
}

// A lease file whose lease is gone, that is broken or of another TTL keeps
// nobody from announcing.
func TestLeaseFileThatIsOld(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	store := open(t, "etcd://"+s.Addr(), nil)
	for name, text := range map[string]string{
		"gone":   `{"lease":"7b","ttl_s":60,"keys":{"/k":"old"}}`,
		"ttl":    `{"lease":"7b","ttl_s":5,"keys":{}}`,
		"broken": `{"lease":"7b`,
		"empty":  ``,
		"zero":   `{"lease":"0","ttl_s":60}`,
	} {
		l := store.Lease(time.Minute)
		l.File = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(l.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		stop := hold(t, l)
		write(t, l, "/"+name, "v")
		if got, want := get(t, s, "/"+name), (held{"v", l.ID()}); got != want || l.ID() == 0x7b {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		stop()
	}
}

// One member of three that is frozen, a follower or the leader, costs no lease,
// though its TTL is short. The client's own session, in the same scenario, loses
// some of its keys (A9 of the fault list).
func TestFrozenMemberCostsNoLease(t *testing.T) {
	t.Parallel()
	const announcers, ttl = 30, 5
	for _, victim := range []string{"follower", "leader"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			s := etcdtest.Cluster(t, 3)
			leader := 0
			for i := range s {
				if s[i].IsLeader() {
					leader = i
				}
			}
			frozen, seesAll := s[leader], s[(leader+1)%3]
			if victim == "follower" {
				frozen, seesAll = s[(leader+2)%3], s[leader]
			}
			urls := "etcd://" + frozen.Addr() // everybody begins there
			for _, m := range s {
				if m != frozen {
					urls += "," + m.Addr()
				}
			}
			for i := range announcers {
				l := open(t, urls, nil).Lease(ttl * time.Second)
				hold(t, l)
				write(t, l, fmt.Sprintf("/ours/%02d", i), "v")
				session(t, s, ttl, fmt.Sprintf("/theirs/%02d", i))
			}
			ours, theirs := record(t, seesAll, "/ours/"), record(t, seesAll, "/theirs/")
			frozen.Stop()
			deletes := func(e *events) (n int) {
				for _, ev := range e.all() {
					if ev[:4] == "DELE" {
						n++
					}
				}
				return n
			}
			time.Sleep((2*ttl + 2) * time.Second) // a lease could run out twice
			frozen.Cont()
			if n := deletes(ours); n != 0 {
				t.Errorf("%d of %d live entries were deleted, want none", n, announcers)
			}
			n := deletes(theirs)
			if n == 0 {
				t.Error("the fault does not bite: no session lost its key")
			}
			t.Logf("deleted: ours %d of %d, concurrency.Session %d of %d", deletes(ours), announcers, n, announcers)
		})
	}
}

// Several addresses are silent at the same time: they are asked one soon after
// the other, not each when the one before has had its time, which is more than
// the lease has.
func TestSilentAddressesAreAskedTogether(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	urls := "etcd://"
	var relays []*etcdtest.Relay
	for i := range 5 {
		r := etcdtest.NewRelay(t, s.Addr())
		relays = append(relays, r)
		if i > 0 {
			urls += ","
		}
		urls += r.Addr()
	}
	for _, r := range relays[1:4] {
		r.Blackhole()
	}
	l := open(t, urls, nil).Lease(3 * time.Second)
	hold(t, l)
	write(t, l, "/k", "v")
	seen := record(t, s, "/k")
	relays[0].Blackhole()
	began := time.Now()
	eventually(t, "it is renewed by the last address", func() bool { return l.Renewed().Sub(began) > 4*time.Second })
	if n := seen.count("DELETE /k"); n != 0 {
		t.Errorf("the key went %d times, want never", n)
	}
}

// The address that the own keys are watched at falls silent, and the lease is
// renewed at another: what others do to the keys is found all the same.
func TestOwnKeysAreWatchedElsewhereWhenTheirAddressIsSilent(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	first := etcdtest.NewRelay(t, s.Addr())
	l := open(t, "etcd://"+first.Addr()+","+s.Addr(), nil).Lease(3 * time.Second)
	hold(t, l)
	write(t, l, "/k", "v")
	seen := record(t, s, "/k")
	// It is watched by now if it repairs.
	put(t, s, "/k", "foreign")
	eventually(t, "the value is ours again", func() bool { return get(t, s, "/k") == held{"v", l.ID()} })
	first.Blackhole()
	if _, err := s.Client().Delete(within(t), "/k"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", func() bool { return get(t, s, "/k") == held{"v", l.ID()} })
	if n := seen.count("DELETE /k"); n != 1 {
		t.Errorf("the key went %d times, want once: the lease was held", n)
	}
}

// session announces key as the client's package concurrency would.
func session(t testing.TB, s []*etcdtest.Server, ttl int, key string) *concurrency.Session {
	t.Helper()
	var endpoints []string
	for _, m := range s {
		endpoints = append(endpoints, m.Addr())
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ss, err := concurrency.NewSession(c, concurrency.WithTTL(ttl))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ss.Orphan)
	if _, err := c.Put(within(t), key, "v", clientv3.WithLease(ss.Lease())); err != nil {
		t.Fatal(err)
	}
	return ss
}

// etcd is away for longer than the TTL: the lease is taken up again before
// anything is written, so nobody sees an event. The client's own session has
// ended by then, and its key is gone (A7).
func TestOutageLongerThanTheTTL(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	l := open(t, "etcd://"+s.Addr(), nil).Lease(2 * time.Second)
	hold(t, l)
	write(t, l, "/ours", "v")
	id := l.ID()
	naive := session(t, []*etcdtest.Server{s}, 2, "/theirs")
	s.Kill()
	// A Write that begins in the outage waits for the lease, not only for etcd.
	wrote := make(chan error, 1)
	go func() { wrote <- l.Write(within(t), []backends.KV{{Key: "/ours", Value: "v"}}, nil) }()
	<-naive.Done() // bites
	time.Sleep(3 * time.Second)
	before := l.Renewed()
	s.Restart()
	seen := record(t, s, "/")
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is renewed", func() bool { return l.Renewed().After(before) })
	eventually(t, "the session's key is gone", func() bool { return seen.count("DELETE /theirs") == 1 })
	if l.ID() != id || seen.count("PUT /ours") != 1 || seen.count("DELETE /ours") != 0 {
		t.Errorf("lease %x, events %q; want lease %x and nothing about /ours but its first put", l.ID(), seen.all(), id)
	}
	if l.Progress().Before(before) {
		t.Error("Progress stood still")
	}
}
