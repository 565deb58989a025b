package consul_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"muster/backends/backendtest"
	"muster/internal/consultest"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

func TestServerKilledAndRestarted(t *testing.T) {
	s := consultest.Start(t, consultest.Config{})
	s.Put("k/1", "a")
	r := backendtest.NewReader(t, open(t, "consul://"+s.Addr(), nil), "/k")
	r.Has("/k/1=a")
	s.Kill()
	r.Fails("consul " + s.Addr() + ": ")
	time.Sleep(time.Second) // more attempts: they are no news
	s.Restart()
	s.Put("k/2", "b")
	r.Has("/k/1=a /k/2=b")
	r.Counts(1, 2)
}

func TestConnectionsCutRefusedAndSwallowed(t *testing.T) {
	s := consultest.Start(t, consultest.Config{})
	relay := etcdtest.NewRelay(t, s.Addr())
	s.Put("k/1", "a")
	r := backendtest.NewReader(t, open(t, "consul://"+relay.Addr(), nil), "/k")
	r.Has("/k/1=a")

	relay.Cut() // the question is asked again, for what is newer than was known
	s.Put("k/1", "a2")
	r.Has("/k/1=a2")
	r.Counts(0, 1)

	relay.Refuse()
	r.Until("it is away", func() bool { return len(r.Errors) == 1 })
	s.Put("k/1", "b")
	relay.Heal()
	r.Has("/k/1=b")

	relay.Blackhole()
	r.Fails("no answer in time")
	s.Put("k/1", "c")
	relay.Heal()
	r.Has("/k/1=c")
	r.Counts(2, 3)
}

func TestFrozenServerIsLeftForTheNext(t *testing.T) {
	a, b := consultest.Start(t, consultest.Config{}), consultest.Start(t, consultest.Config{})
	a.Put("k", "a")
	b.Put("k", "b")
	r := backendtest.NewReader(t, open(t, "consul://127.0.0.1:1,"+a.Addr()+","+b.Addr(), nil), "/k")
	r.Has("/k=a")
	r.Counts(0, 1) // the first is away, which is no news while another answers
	a.Stop()
	defer a.Cont()
	r.Has("/k=b")
	r.Counts(1, 2)
}

// A snapshot that is restored takes the keys back.
func TestSnapshotRestored(t *testing.T) {
	s := consultest.Start(t, consultest.Config{})
	s.Put("k/1", "old")
	snapshot, _, err := s.Client().Snapshot().Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	text, err := io.ReadAll(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		s.Put("k/1", fmt.Sprint(i))
	}
	r := backendtest.NewReader(t, open(t, "consul://"+s.Addr(), nil), "/k")
	r.Has("/k/1=49")
	if err := s.Client().Snapshot().Restore(nil, strings.NewReader(string(text))); err != nil {
		t.Fatal(err)
	}
	r.Has("/k/1=old")
	s.Put("k/1", "new")
	r.Has("/k/1=new")
}

func TestTLS(t *testing.T) {
	certs := etcdtest.NewCerts(t)
	s := consultest.Start(t, consultest.Config{Certs: &certs})
	s.Put("k/1", "a")
	pair := "&cert=" + certs.ClientCert + "&key=" + certs.ClientKey
	r := backendtest.NewReader(t, open(t, "consuls://"+s.Addr()+"?ca="+certs.CA+pair, nil), "/k")
	r.Has("/k/1=a")
	s.Put("k/2", "b")
	r.Has("/k/1=a /k/2=b")
	for url, want := range map[string]string{
		"consuls://" + s.Addr() + "?ca=" + certs.CA: "certificate",
		"consuls://" + s.Addr() + "?" + pair[1:]:    "certificate signed by unknown authority",
		"consul://" + s.Addr():                      "Client sent an HTTP request to an HTTPS server. (status 400)",
	} {
		backendtest.NewReader(t, open(t, url, nil), "/k").Fails(want)
	}
}

// A key is what Consul calls it. A folder shows without its slash, and gives way
// to a key of that name.
func TestNames(t *testing.T) {
	s := consultest.Start(t, consultest.Config{})
	s.Put("k/both", "key")
	s.Put("k/both/", "folder")
	s.Put("k/both/x y%?#ä", "odd")
	s.Put("k/empty/", "")
	s.Put("k", "itself")
	s.Put("k-2", "beside")
	r := backendtest.NewReader(t, open(t, "consul://"+s.Addr(), nil), "/k/")
	r.Has("/k=itself /k/both=key /k/both/x y%?#ä=odd /k/empty=")
	s.Delete("k/both")
	r.Has("/k=itself /k/both=folder /k/both/x y%?#ä=odd /k/empty=")
	backendtest.NewReader(t, byString(t, s.Addr()), "/k").Has("/k=itself /k-2=beside /k/both=folder /k/both/x y%?#ä=odd /k/empty=")
}

// Of what may not be read nothing comes, and that is said.
func TestRights(t *testing.T) {
	s := consultest.Start(t, consultest.Config{ACL: true})
	s.Put("k/open", "a")
	s.Put("k/secret", "b")
	s.Put("k.meta/x", "c") // a neighbour of k
	s.Put("only/secret", "d")
	t.Setenv("CONSUL_HTTP_TOKEN", s.Token(`key_prefix "k/open" { policy = "read" }`))

	var log backendtest.Logbook
	store := open(t, "consul://"+s.Addr(), log.Logger())
	r := backendtest.NewReader(t, store, "/k")
	r.Has("/k/open=a")
	s.Put("k/open", "z")
	r.Has("/k/open=z")
	if got := log.Count("keys may not be read with this token and are left out"); got != 1 {
		t.Errorf("the log warns %d times, want 1: %s", got, &log)
	}
	// k.meta may not be read either, which is nothing to k/open.
	backendtest.NewReader(t, store, "/k/open").Has("/k/open=z")
	if got := log.Count("WARN"); got != 1 {
		t.Errorf("the log warns %d times, want 1: %s", got, &log)
	}
	backendtest.NewReader(t, store, "/only").Fails("consul " + s.Addr() + `: keys under "/only" may not be read with this token: not allowed`)
	backendtest.NewReader(t, store, "/none").Has("")

	t.Setenv("CONSUL_HTTP_TOKEN", "")
	backendtest.NewReader(t, open(t, "consul://"+s.Addr(), log.Logger()), "/k").Has("")
	if got := log.Count("there are no keys for who has no token"); got != 1 {
		t.Errorf("the log says so %d times, want 1: %s", got, &log)
	}
	t.Setenv("CONSUL_HTTP_TOKEN", "00000000-0000-4000-8000-000000000000")
	backendtest.NewReader(t, open(t, "consul://"+s.Addr(), nil), "/k").Fails("ACL not found (status 403)")
}

// A right to list is needed where Consul is told so.
func TestListRight(t *testing.T) {
	s := consultest.Start(t, consultest.Config{ACL: true, KeyList: true})
	s.Put("k/1", "a")
	t.Setenv("CONSUL_HTTP_TOKEN", s.Token(`key_prefix "k" { policy = "read" }`))
	backendtest.NewReader(t, open(t, "consul://"+s.Addr(), nil), "/k").Fails("Permission denied")
	t.Setenv("CONSUL_HTTP_TOKEN", s.Token(`key_prefix "k" { policy = "list" }`))
	backendtest.NewReader(t, open(t, "consul://"+s.Addr(), nil), "/k").Has("/k/1=a")
}

// A token that is gone is an error until there is another in its file.
func TestTokenReplaced(t *testing.T) {
	s := consultest.Start(t, consultest.Config{ACL: true})
	s.Put("k/1", "a")
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file+".new", []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	first := s.Token(`key_prefix "k" { policy = "read" }`)
	write(first)
	r := backendtest.NewReader(t, open(t, "consul://"+s.Addr()+"?token=file:"+file, nil), "/k")
	r.Has("/k/1=a")
	s.Revoke(first)
	s.Put("k/1", "b")
	r.Fails("ACL not found (status 403)")
	write(s.Token(`key_prefix "k" { policy = "read" }`))
	r.Has("/k/1=b")
}

// A thousand prefixes are few connections.
func TestManyPrefixes(t *testing.T) {
	s := consultest.Start(t, consultest.Config{})
	relay := etcdtest.NewRelay(t, s.Addr())
	var prefixes []string
	for i := range 500 {
		prefixes = append(prefixes, fmt.Sprintf("/app%d/config", i))
	}
	r := backendtest.NewReader(t, open(t, "consul://"+relay.Addr(), nil), prefixes...)
	r.Has("")
	s.Put("app17/config/x", "a")
	s.Put("app17/other", "b")
	s.Put("app499/config", "c")
	r.Has("/app17/config/x=a /app499/config=c")
	if got := relay.Conns(); got > 33 {
		t.Errorf("got %d connections, want up to 32 and one", got)
	}
}

// Memory, connections and goroutines stay as they are over 1,000 changes and
// several breaks.
func TestNothingGrows(t *testing.T) {
	s := consultest.Start(t, consultest.Config{})
	relay := etcdtest.NewRelay(t, s.Addr())
	store := open(t, "consul://"+relay.Addr(), nil)
	r, other := backendtest.NewReader(t, store, "/k"), backendtest.NewReader(t, store, "/other")
	r.Has("")
	other.Has("")
	round := func(n int) {
		for i := range n {
			s.Put(fmt.Sprintf("k/%d/a", i%10), fmt.Sprint(i))
			if i%10 == 5 {
				s.Delete(fmt.Sprintf("k/%d/a", i%10))
			}
		}
		r.Until("the last change", func() bool { return r.Keys["/k/9/a"] == fmt.Sprint(n-1) })
	}
	round(100)
	// A connection is two goroutines of the client and three of the relay, and there
	// may be one more or less, as signs of life are asked for on any that is idle.
	goroutines := func() int { return runtime.NumGoroutine() - 5*relay.Conns() }
	heap, before := backendtest.Heap(), goroutines()
	for range 10 {
		round(100)
	}
	r.Counts(0, 1)
	for i := range 5 {
		fulls := r.Fulls
		relay.Refuse()
		r.Until("it is away", func() bool { return len(r.Errors) > i })
		relay.Heal()
		r.Until("it is Full again", func() bool { return r.Fulls > fulls })
	}
	// Each watch has a blocking query and, twice a second, a sign of life.
	proctest.Eventually(t, "four connections", func() bool { return relay.Conns() <= 4 })
	r.Alive(2)
	other.Alive(2)
	proctest.Eventually(t, "as many goroutines as before", func() bool { return goroutines() <= before })
	if grown := backendtest.Heap() - heap; grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
