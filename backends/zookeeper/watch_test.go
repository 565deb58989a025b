package zookeeper_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"muster/backends/backendtest"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/zktest"
)

// A node with children is a key where it has data; the original drops it.
func TestNodesWithChildren(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/a/leaf", "1")
	s.Put("/a/empty", "")
	r := backendtest.NewReader(t, open(t, "zk://"+s.Addr(), nil), "/a")
	r.Has("/a/empty= /a/leaf=1")
	s.Put("/a", "both")
	r.Has("/a=both /a/empty= /a/leaf=1")
	s.Put("/a/empty/below", "2")
	r.Has("/a=both /a/empty/below=2 /a/leaf=1")
	s.Put("/a", "")
	s.Delete("/a/empty/below")
	r.Has("/a/leaf=1")
	s.Delete("/a/leaf")
	r.Has("")
	s.Put("/a/b/c/d/e", "deep")
	r.Has("/a/b/c/d/e=deep")
	r.Counts(0, 1)
}

// An ephemeral node is gone with its session, and says whose it is.
func TestEphemeralNodes(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/services/web/1", "stays")
	client, ended, err := zk.Connect([]string{s.Addr()}, 10*time.Second, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		for range ended {
			// until it has ended
		}
	})
	if _, err := client.Create("/services/web/2", []byte("leaves"), zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	var lease int64
	for c, err := range open(t, "zk://"+s.Addr(), nil).Watch(t.Context(), []string{"/services/web/2"}) {
		if err != nil {
			t.Fatal(err)
		}
		lease = c.Put[0].Lease
		break
	}
	if lease != client.SessionID() {
		t.Errorf("got lease %x, want the session %x", lease, client.SessionID())
	}
	r := backendtest.NewReader(t, open(t, "zk://"+s.Addr(), nil), "/services")
	r.Has("/services/web/1=stays /services/web/2=leaves")
	client.Close()
	r.Has("/services/web/1=stays")
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// What is written in one transaction arrives in one Change.
func TestTransactionsArriveTogether(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/pair/a", "x")
	s.Put("/pair/deep/er/b", "x")
	r := backendtest.NewReader(t, open(t, "zk://"+s.Addr(), nil), "/pair")
	r.Has("/pair/a=x /pair/deep/er/b=x")
	for i := range 200 {
		value := []byte(fmt.Sprint(i))
		_, err := s.Client().Multi(
			&zk.SetDataRequest{Path: "/pair/a", Data: value, Version: -1},
			&zk.SetDataRequest{Path: "/pair/deep/er/b", Data: value, Version: -1},
		)
		if err != nil {
			t.Fatal(err)
		}
		r.Until("both", func() bool {
			a, b := r.Keys["/pair/a"], r.Keys["/pair/deep/er/b"]
			if a != b {
				t.Fatalf("a is %q and b is %q", a, b)
			}
			return a == fmt.Sprint(i)
		})
	}
	r.Counts(0, 1)
}

// Nodes come, change, go and come back faster than they can be read: what is
// known at last is what is there.
func TestNothingIsLostInTheRush(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/rush/keep", "x")
	r := backendtest.NewReader(t, open(t, "zk://"+s.Addr(), nil), "/rush", "/made/later")
	r.Has("/rush/keep=x")
	want := map[string]string{"/rush/keep": "x"}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 1500 {
		key := fmt.Sprintf("/rush/%d/%d", random.IntN(4), random.IntN(4))
		if random.IntN(10) == 0 {
			key = "/made/later/x"
		}
		if random.IntN(2) == 0 {
			s.Delete(key)
			delete(want, key)
		} else {
			want[key] = fmt.Sprint(i)
			s.Put(key, want[key])
		}
	}
	r.Has(backendtest.Text(want))
	r.Counts(0, 1)
}

func TestMoreNodesThanOneAnswerHolds(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/many/0", "x")
	client := s.Client()
	value := []byte(strings.Repeat("v", 1000))
	for i := range 30 {
		var ops []any
		for j := range 100 {
			ops = append(ops, &zk.CreateRequest{Path: fmt.Sprintf("/many/%d-%d", i, j), Data: value, Acl: zk.WorldACL(zk.PermAll)})
		}
		if _, err := client.Multi(ops...); err != nil {
			t.Fatal(err)
		}
	}
	r := backendtest.NewReader(t, open(t, "zk://"+s.Addr(), nil), "/")
	r.Until("all are there", func() bool { return len(r.Keys) == 3001 })
	for key := range r.Keys {
		if strings.HasPrefix(key, "/zookeeper") {
			t.Errorf("%s is ZooKeeper's own", key)
		}
	}
	s.Put("/many/29-99", "changed")
	r.Until("the change", func() bool { return r.Keys["/many/29-99"] == "changed" })
	own := backendtest.NewReader(t, open(t, "zk://"+s.Addr(), nil), "/zookeeper/quota")
	own.Has("/zookeeper/quota=")
}

// Two watches of one store have nothing in common.
func TestManyWatches(t *testing.T) {
	s := zktest.Start(t)
	store := open(t, "zk://"+s.Addr(), nil)
	var readers []*backendtest.Reader
	for i := range 8 {
		s.Put(fmt.Sprintf("/app%d/key", i), "first")
		readers = append(readers, backendtest.NewReader(t, store, fmt.Sprintf("/app%d", i)))
	}
	for n := range 20 {
		for i := range readers {
			s.Put(fmt.Sprintf("/app%d/key", i), fmt.Sprintf("%d of %d", n, i))
		}
	}
	for i, r := range readers {
		r.Has(fmt.Sprintf("/app%d/key=19 of %d", i, i))
		r.Counts(0, 1)
	}
}

// Memory, connections and goroutines stay as they are over 1,000 changes and
// several breaks: the original leaks a goroutine at each.
func TestNothingGrows(t *testing.T) {
	s := zktest.Start(t)
	relay := etcdtest.NewRelay(t, s.Addr())
	store := open(t, "zk://"+relay.Addr(), nil)
	r, other := backendtest.NewReader(t, store, "/k"), backendtest.NewReader(t, store, "/other")
	r.Has("")
	other.Has("")
	round := func(n int) {
		for i := range n {
			s.Put(fmt.Sprintf("/k/%d/a", i%10), fmt.Sprint(i))
			if i%10 == 5 {
				s.Delete(fmt.Sprintf("/k/%d/a", i%10))
			}
		}
		r.Until("the last change", func() bool { return r.Keys["/k/9/a"] == fmt.Sprint(n-1) })
	}
	round(100)
	heap, goroutines := backendtest.Heap(), runtime.NumGoroutine()
	if got := s.Sessions(); got != 2 {
		t.Errorf("two watches have %d sessions, want 2", got)
	}
	for range 10 {
		round(100)
	}
	for range 5 {
		fulls := r.Fulls
		relay.Cut()
		r.Until("it is Full again", func() bool { return r.Fulls > fulls })
		other.Until("it is Full again", func() bool { return other.Fulls >= r.Fulls })
	}
	// Sessions whose connection broke end after the time that they asked for.
	proctest.Eventually(t, "two connections", func() bool { return s.Sessions() == 2 })
	r.Alive(2)
	proctest.Eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
	if grown := backendtest.Heap() - heap; grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// Who may not read a node does not see it, and learns of it from the log; who may
// not read a prefix gets an error.
func TestDigest(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/open/a", "1")
	client := s.Client()
	if err := client.AddAuth("digest", []byte("reader:p@ss")); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"/open/secret", "/secret"} {
		if _, err := client.Create(node, []byte("x"), 0, zk.DigestACL(zk.PermAll, "reader", "p@ss")); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			t.Fatal(err)
		}
	}
	login := "zk://reader:p%40ss@" + s.Addr()
	backendtest.NewReader(t, open(t, login, nil), "/").Has("/open/a=1 /open/secret=x /secret=x")

	for _, url := range []string{"zk://" + s.Addr(), "zk://reader:wrong@" + s.Addr()} {
		var log backendtest.Logbook
		r := backendtest.NewReader(t, open(t, url, log.Logger()), "/open")
		r.Has("/open/a=1")
		if got := log.Count("a node may not be read and is left out"); got != 1 || log.Count("node=/open/secret") != 1 {
			t.Errorf("the log says it %d times, want once: %s", got, &log)
		}
		s.Put("/open/a", "2")
		r.Has("/open/a=2")
		s.Put("/open/a", "1")
		r.Has("/open/a=1")

		r = backendtest.NewReader(t, open(t, url, nil), "/secret")
		r.Fails("zookeeper " + s.Addr() + `: node "/secret" may not be read: zk: not authenticated`)
		r.Counts(1, 0)
	}

	// It is given the right later.
	r := backendtest.NewReader(t, open(t, "zk://"+s.Addr(), nil), "/secret")
	r.Fails("may not be read")
	if _, err := client.SetACL("/secret", zk.WorldACL(zk.PermAll), -1); err != nil {
		t.Fatal(err)
	}
	r.Has("/secret=x")
}

func TestChrootThatIsMadeLater(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/elsewhere/services/web/1", "not ours")
	r := backendtest.NewReader(t, open(t, "zk://"+s.Addr()+"/far/away/", nil), "/services")
	r.Has("")
	s.Put("/far/away/services/web/1", "a")
	r.Has("/services/web/1=a")
	s.Delete("/far/away/services/web/1")
	r.Has("")
	s.Put("/far/away/services/web/2", "b")
	r.Has("/services/web/2=b")
	whole := backendtest.NewReader(t, open(t, "zk://"+s.Addr()+"/far", nil), "/")
	whole.Has("/away/services/web/2=b")
	r.Counts(0, 1)
}
