package rancher_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"muster/backends/backendtest"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/ranchertest"
)

func TestServerStoppedAndStarted(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{})
	s.Put("/latest/k/1", "a")
	r := backendtest.NewReader(t, open(t, "rancher://"+s.Addr()+"/latest"), "/k")
	r.Has("/k/1=a")
	s.Stop()
	r.Fails("rancher " + s.Addr() + ": ")
	s.Put("/latest/k/2", "b")
	s.Start()
	r.Has("/k/1=a /k/2=b")
	r.Counts(1, 1)
}

// A version that did not change is no reason to believe a server that was away.
func TestSameVersionAfterBreak(t *testing.T) {
	var answers map[string]string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, answers[r.URL.Path])
	}))
	t.Cleanup(server.Close)
	answers = map[string]string{"/latest/version": `"1"`, "/latest/k": `"a"`}
	relay := etcdtest.NewRelay(t, server.Listener.Addr().String())
	r := backendtest.NewReader(t, open(t, "rancher://"+relay.Addr()), "/latest/k")
	r.Has("/latest/k=a")
	relay.Refuse()
	r.Fails("connection refused")
	answers = map[string]string{"/latest/version": `"1"`, "/latest/k": `"b"`}
	relay.Heal()
	r.Has("/latest/k=b")
}

func TestConnectionsCutAndSwallowed(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{})
	relay := etcdtest.NewRelay(t, s.Addr())
	s.Put("/latest/k/1", "a")
	r := backendtest.NewReader(t, open(t, "rancher://"+relay.Addr()), "/latest/k")
	r.Has("/latest/k/1=a")
	relay.Cut()
	s.Put("/latest/k/1", "b")
	r.Has("/latest/k/1=b")
	relay.Blackhole()
	r.Fails("rancher " + relay.Addr() + ": no answer in time")
	s.Put("/latest/k/1", "c")
	relay.Heal()
	r.Has("/latest/k/1=c")
	if r.Fulls != 1 {
		t.Errorf("got %d Full Changes, want 1", r.Fulls)
	}
}

func TestSilentAddressIsLeftForTheNext(t *testing.T) {
	a, b := ranchertest.Start(t, ranchertest.Config{}), ranchertest.Start(t, ranchertest.Config{})
	a.Put("/latest/k", "a")
	b.Put("/latest/k", "b")
	relay := etcdtest.NewRelay(t, a.Addr())
	r := backendtest.NewReader(t, open(t, "rancher://127.0.0.1:1,"+relay.Addr()+","+b.Addr()), "/latest/k")
	r.Has("/latest/k=a")
	relay.Blackhole()
	r.Has("/latest/k=b")
	r.Counts(0, 1) // another one answers: no news
	b.Put("/latest/k", "b2")
	r.Has("/latest/k=b2")
}

// A connection that is reset has the same words at each attempt, so it is news once.
func TestResetIsOneError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1)) // and the rest is not read: a reset
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			asked <- struct{}{}
		}
	}()
	defer func() { l.Close(); <-done }()
	var errs []error
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for range 8 { // two a second
			<-asked
		}
		cancel()
	}()
	for _, err := range open(t, "rancher://"+l.Addr().String()).Watch(ctx, []string{"/latest"}) {
		errs = append(errs, err)
	}
	if want := "rancher " + l.Addr().String() + ": read: connection reset by peer"; len(errs) != 1 || errs[0].Error() != want {
		t.Errorf("got %q, want once %q", errs, want)
	}
}

// What is said while nothing is known is not that there is nothing.
func TestServiceThatKnowsNothingYet(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{})
	s.Put("/latest/k", "a")
	r := backendtest.NewReader(t, open(t, "rancher://"+s.Addr()+"/latest"), "/k")
	r.Has("/k=a")
	s.Forget()
	r.Fails(`rancher ` + s.Addr() + `: it has nothing under "/latest" (status 404): want a version of the metadata, such as /latest`)
	if got := backendtest.Text(r.Keys); got != "/k=a" {
		t.Errorf("got %q, want what was known", got)
	}
	s.Put("/latest/k", "b")
	r.Has("/k=b")
}

// The forms of metadata are folders of everything.
func TestEverything(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{NoVersion: true})
	s.Put("/latest/k", "a")
	s.Put("/2015-12-19/k", "b")
	store := open(t, "rancher://"+s.Addr())
	backendtest.NewReader(t, store, "/").Has("/2015-12-19/k=b /latest/k=a")
	backendtest.NewReader(t, store, "/2015-12-19").Has("/2015-12-19/k=b")
	backendtest.NewReader(t, store, "/latest/none").Has("")
	backendtest.NewReader(t, store, "/latest/k/below").Has("")
	backendtest.NewReader(t, store, "/2016-07-30/k").Fails(`it has nothing under "/2016-07-30" (status 404)`)
}

// An address of its own is what a container is known by.
func TestAnswersForThisClient(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{NoVersion: true})
	s.Replace(map[string]map[string]any{"2016-07-29": {
		"127.0.0.1": map[string]any{"self": map[string]any{"container": map[string]any{"name": "me"}}},
		"default":   map[string]any{"self": "nobody"},
	}})
	backendtest.NewReader(t, open(t, "rancher://"+s.Addr()), "/latest/self").Has("/latest/self/container/name=me")
}

// A name is a name, whatever a URL thinks of it.
func TestOddNames(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{})
	s.Put("/latest/a+b %?#ä/x", "odd")
	store := open(t, "rancher://"+s.Addr()+"/latest")
	r := backendtest.NewReader(t, store, "/a+b %?#ä")
	r.Has("/a+b %?#ä/x=odd")
	s.Put("/latest/a+b %?#ä/x", "changed")
	r.Has("/a+b %?#ä/x=changed")
}

// A service that does not wait is asked once a second, and not as fast as it
// answers.
func TestServiceThatDoesNotWait(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{NoWait: true})
	start := time.Now()
	r := backendtest.NewReader(t, open(t, "rancher://"+s.Addr()), "/latest/k")
	r.Alive(5)
	// Each second one look and one that would wait, and two to begin with.
	seconds := int(time.Since(start).Seconds()) + 1
	if got := s.Asked("/latest/version"); got > 2*seconds+2 {
		t.Errorf("asked for the version %d times in %d seconds, want up to two a second", got, seconds)
	}
	s.Put("/latest/k", "a")
	r.Has("/latest/k=a")
}

// As long as the version is the same nothing else is asked for.
func TestSameVersionIsNotRead(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{})
	s.Put("/latest/k", "a")
	r := backendtest.NewReader(t, open(t, "rancher://"+s.Addr()), "/latest/k")
	r.Has("/latest/k=a")
	proctest.Eventually(t, "it waits", func() bool { return s.Waiting() == 1 })
	before := s.Asked("/latest/k")
	r.Alive(4)
	if got := s.Asked("/latest/k"); got != before {
		t.Errorf("asked for the key %d times more, want none", got-before)
	}
}

func TestRead(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{})
	s.Put("/latest/a/1", "x")
	s.Put("/latest/b", "y")
	store := open(t, "rancher://127.0.0.1:1,"+s.Addr()+"/latest")
	c, err := store.Read(t.Context(), []string{"/b", "/a", "/a/1", "nothing"})
	if got := fmt.Sprint(c.Full, c.Put, c.Deleted); err != nil || got != "true [{/a/1 x 0 0 0} {/b y 0 0 0}] []" {
		t.Errorf("got %s, %v, want a and b", got, err)
	}
	if c, err := store.Read(t.Context(), nil); err != nil || !c.Full || len(c.Put) > 0 {
		t.Errorf("of no prefixes: got %+v, %v, want a Full Change of nothing", c, err)
	}
	s.Stop()
	want := "rancher 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused; rancher " + s.Addr() + ": dial tcp " + s.Addr() + ": connect: connection refused"
	if _, err := store.Read(t.Context(), []string{"/a"}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Several prefixes are of one version.
func TestDocumentsOfOneVersion(t *testing.T) {
	var n int // of the version; the first read of a makes another one
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/latest/a":
			fmt.Fprint(w, n)
			if n == 0 {
				n = 1
			}
			return
		}
		fmt.Fprint(w, n)
	}))
	t.Cleanup(server.Close)
	c, err := open(t, "rancher://"+server.Listener.Addr().String()+"/latest").Read(t.Context(), []string{"/a", "/b"})
	if got := fmt.Sprint(c.Put); err != nil || got != "[{/a 1 0 0 0} {/b 1 0 0 0}]" {
		t.Errorf("got %s, %v, want both of version 1", got, err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{})
	s.Fail(http.StatusInternalServerError)
	backendtest.NewReader(t, open(t, "rancher://"+s.Addr()), "/latest/k").
		Fails(`rancher ` + s.Addr() + `: GET /latest/version: {"code":500,"message":"refused","type":"error"} (status 500)`)

	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "<html>"+strings.Repeat("x", 100))
	}))
	t.Cleanup(page.Close)
	backendtest.NewReader(t, open(t, "rancher://"+page.Listener.Addr().String()), "/latest/k").
		Fails(`GET /latest/version: want JSON, got "<html>` + strings.Repeat("x", 74) + `…": is this the metadata service?`)
}

// Memory, connections and goroutines stay as they are over 1,000 changes and
// several breaks.
func TestNothingGrows(t *testing.T) {
	s := ranchertest.Start(t, ranchertest.Config{})
	r := backendtest.NewReader(t, open(t, "rancher://"+s.Addr()+"/latest"), "/k")
	r.Has("")
	round := func(n int) {
		for i := range n {
			s.Put(fmt.Sprintf("/latest/k/%d/a", i%10), fmt.Sprint(i))
			if i%10 == 5 {
				s.Delete(fmt.Sprintf("/latest/k/%d/a", i%10))
			}
		}
		r.Until("the last change", func() bool { return r.Keys["/k/9/a"] == fmt.Sprint(n-1) })
	}
	settled := func() int {
		proctest.Eventually(t, "one waits", func() bool { return s.Waiting() == 1 })
		return runtime.NumGoroutine()
	}
	round(100)
	heap, before := memory(), settled()
	for range 10 {
		round(100)
	}
	r.Counts(0, 1)
	for i := range 3 {
		s.Stop()
		r.Until("it is away", func() bool { return len(r.Errors) > i })
		s.Start()
		s.Put("/latest/k/back", fmt.Sprint(i))
		r.Until("it is back", func() bool { return r.Keys["/k/back"] == fmt.Sprint(i) })
	}
	round(100)
	// A connection more or less is four goroutines.
	if now := settled(); now > before+4 {
		t.Errorf("%d goroutines became %d", before, now)
	}
	if got := s.Conns(); got > 3 {
		t.Errorf("got %d connections, want one that waits and one that reads", got)
	}
	if now := memory(); now > heap+2<<20 {
		t.Errorf("%d bytes became %d", heap, now)
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
