package vault_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/vault"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/vaulttest"
)

func TestServerKilledAndRestarted(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Put("kv2/k/1", value("a"))
	r := backendtest.NewReader(t, open(t, s.Addr(), root(s), nil), "/kv2/k")
	r.Has("/kv2/k/1=a")
	s.Kill()
	r.Fails("vault " + s.Addr() + ": ")
	s.Restart()
	s.Put("kv2/k/2", value("b"))
	r.Has("/kv2/k/1=a /kv2/k/2=b")
	if r.Fulls != 1 {
		t.Errorf("got %d Full Changes, want 1: what is read is compared", r.Fulls)
	}
}

func TestSealed(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Put("kv1/k/1", value("a"))
	r := backendtest.NewReader(t, open(t, s.Addr(), root(s), nil), "/kv1/k")
	r.Has("/kv1/k/1=a")
	s.Seal()
	r.Fails("vault " + s.Addr() + ": ")
	r.Until("it is sealed", func() bool { return strings.Contains(r.Errors[len(r.Errors)-1], "Vault is sealed (status 503)") })
	s.Unseal()
	s.Put("kv1/k/1", value("b"))
	r.Has("/kv1/k/1=b")
}

func TestFrozenServerIsLeftForTheNext(t *testing.T) {
	a := vaulttest.Start(t, vaulttest.Config{})
	relay := etcdtest.NewRelay(t, a.Addr()) // a second address of the same cluster
	a.Put("kv2/k", value("a"))
	store, err := vault.New(vault.Config{Nodes: []string{"127.0.0.1:1", relay.Addr(), a.Addr()}, Auth: root(a), Interval: often})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r := backendtest.NewReader(t, store, "/kv2/k")
	r.Has("/kv2/k=a")
	relay.Blackhole()
	a.Put("kv2/k", value("b"))
	r.Has("/kv2/k=b")
	r.Counts(0, 1) // while another answers it is no news
}

// A sealed one too; the next may want another login.
func TestSealedServerIsLeftForTheNext(t *testing.T) {
	var nodes []string
	var login vault.Auth
	var first *vaulttest.Server
	for _, text := range []string{"a", "b"} {
		s := vaulttest.Start(t, vaulttest.Config{})
		s.Policy("reader", reader)
		login = auth(t, "userpass", "", s.Login("userpass", "userpass", "reader", "1h", ""))
		s.Put("kv2/k", value(text))
		nodes = append(nodes, s.Addr())
		if first == nil {
			first = s
		}
	}
	store, err := vault.New(vault.Config{Nodes: nodes, Auth: login, Interval: often})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r := backendtest.NewReader(t, store, "/kv2/k")
	r.Has("/kv2/k=a")
	first.Seal()
	r.Has("/kv2/k=b")
	r.Counts(0, 1)
}

func TestTLS(t *testing.T) {
	certs := etcdtest.NewCerts(t)
	s := vaulttest.Start(t, vaulttest.Config{Certs: &certs})
	s.Put("kv2/k", value("a"))
	t.Setenv("VAULT_TOKEN", s.Root())
	store, err := vault.Open("vaults://"+s.Addr()+"?ca="+certs.CA, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	backendtest.NewReader(t, store, "/kv2/k").Has("/kv2/k=a")
	for url, want := range map[string]string{
		"vaults://" + s.Addr(): "certificate signed by unknown authority",
		"vault://" + s.Addr():  "Client sent an HTTP request to an HTTPS server",
	} {
		store, err := vault.Open(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		backendtest.NewReader(t, store, "/kv2/k").Fails(want)
	}
}

// What confd makes of a secret, from either version.
func TestKeysOfASecret(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	var log backendtest.Logbook
	store := open(t, s.Addr(), root(s), log.Logger())
	for _, mount := range []string{"kv1", "kv2"} {
		s.Put(mount+"/app/lone", value("text"))
		s.Put(mount+"/app/number", map[string]any{"value": 3})
		s.Put(mount+"/app/db", map[string]any{"user": "u", "big": 1234567890, "tls": map[string]any{"ca": "c<d"}})
		s.Put(mount+"/app/db/user", value("a secret of that name"))
		s.Put(mount+"/apply", value("beside"))
		m := "/" + mount
		want := m + `/app/db={"big":1234567890,"tls":{"ca":"c\u003cd"},"user":"u"}` +
			" " + m + "/app/db/tls/ca=c<d" +
			" " + m + "/app/db/user=a secret of that name" +
			" " + m + "/app/lone=text" +
			" " + m + `/app/number={"value":3}`
		r := backendtest.NewReader(t, store, m+"/app/")
		r.Has(want)
		s.Delete(mount + "/app/db")
		s.Delete(mount + "/app/number")
		r.Has(m + "/app/db/user=a secret of that name " + m + "/app/lone=text")
		if got := log.Count("type of '" + m + "/app/number/value' is not supported (json.Number)"); got != 1 {
			t.Errorf("%s: the log says %d times what is no text, want 1: %s", mount, got, &log)
		}
	}
}

// Version 2 as Vault has it, where somebody says data/ or metadata/: so confd
// shows it, and so its templates read it.
func TestVersion2AsItIs(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Put("kv2/app/db", map[string]any{"user": "u"})
	store := open(t, s.Addr(), root(s), nil)
	r := backendtest.NewReader(t, store, "/kv2/data/app")
	r.Until("it is there", func() bool { return r.Keys != nil })
	if got := r.Keys["/kv2/data/app/db/data/user"]; got != "u" {
		t.Errorf("got %q, want the field in its wrapper: %v", got, r.Keys)
	}
	if got := r.Keys["/kv2/data/app/db"]; !strings.HasPrefix(got, `{"data":{"user":"u"},"metadata":{`) {
		t.Errorf("got %q, want the whole answer", got)
	}
	r = backendtest.NewReader(t, store, "/kv2/metadata/app/db")
	r.Until("it is there", func() bool { return r.Keys != nil })
	if got := r.Keys["/kv2/metadata/app/db"]; !strings.Contains(got, `"current_version":1`) {
		t.Errorf("got %q, want the metadata", got)
	}
	// A version that is deleted is no key.
	alike := backendtest.NewReader(t, store, "/kv2/app")
	alike.Has(`/kv2/app/db={"user":"u"} /kv2/app/db/user=u`)
	if _, err := s.Client().Logical().Delete("kv2/data/app/db"); err != nil {
		t.Fatal(err)
	}
	alike.Has("")
}

// Mounts below other folders, and several at once.
func TestMounts(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Mount("team/red", "2")
	s.Mount("team/blue", "1")
	s.Put("team/red/x", value("r"))
	s.Put("team/blue/x", value("b"))
	store := open(t, s.Addr(), root(s), nil)
	backendtest.NewReader(t, store, "/team").Has("/team/blue/x=b /team/red/x=r")
	backendtest.NewReader(t, store, "/team/red").Has("/team/red/x=r")
	backendtest.NewReader(t, store, "/team/red/x").Has("/team/red/x=r")
	backendtest.NewReader(t, store, "/").Has("/team/blue/x=b /team/red/x=r")

	r := backendtest.NewReader(t, store, "/team/green")
	r.Fails(`key "/team/green": no secrets engine is mounted there`)
	s.Mount("team/green", "1")
	r.Has("")
	s.Unmount("team/green")
	r.Fails(`no secrets engine is mounted there`)
	backendtest.NewReader(t, store, "/kv1/nothing").Has("")
}

// Of what may not be read nothing comes, and that is said.
func TestRights(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Put("kv2/app/open", value("a"))
	s.Put("kv2/app/secret", value("b"))
	s.Put("kv2/only/secret", value("c"))
	s.Policy("some", `path "kv2/metadata/app/" { capabilities = ["list"] }
		path "kv2/metadata/app" { capabilities = ["list"] }
		path "kv2/data/app/open" { capabilities = ["read"] }`)
	s.Policy("exact", `path "kv2/data/app/open" { capabilities = ["read"] }`)
	var log backendtest.Logbook
	store := open(t, s.Addr(), vault.Auth{Type: "token", Token: s.Token("some", "1h")}, log.Logger())
	r := backendtest.NewReader(t, store, "/kv2/app")
	r.Has("/kv2/app/open=a")
	r.Alive(3)
	if got := log.Count("it may not be read with this token and is left out"); got != 1 {
		t.Errorf("the log warns %d times, want 1: %s", got, &log)
	}
	backendtest.NewReader(t, store, "/kv2/only").Fails(`key "/kv2/only": vault ` + s.Addr() + ": permission denied (status 403)")
	// Who may read a secret need not be allowed to list.
	exact := open(t, s.Addr(), vault.Auth{Type: "token", Token: s.Token("exact", "1h")}, nil)
	backendtest.NewReader(t, exact, "/kv2/app/open").Has("/kv2/app/open=a")

	// Together nothing is left out.
	for _, prefixes := range [][]string{{"/kv2/app", "/kv1/x"}, {"/kv2/only"}} {
		if c, err := store.Read(t.Context(), prefixes); !errors.Is(err, backends.ErrDenied) {
			t.Errorf("Read(%q): got %+v, %v, want ErrDenied", prefixes, c, err)
		}
		for c, err := range store.WatchTogether(t.Context(), prefixes) {
			if !errors.Is(err, backends.ErrDenied) {
				t.Errorf("WatchTogether(%q): got %+v, %v, want ErrDenied", prefixes, c, err)
			}
			break
		}
	}
	backendtest.NewReader(t, open(t, s.Addr(), vault.Auth{Type: "token", Token: "bogus"}, nil), "/kv2/app").
		Fails("login token: vault " + s.Addr() + ": permission denied (status 403)")
}

// What Vault makes for who reads it is not made at every read, but anew before its
// lease ends.
func TestLeasedSecrets(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Write("sys/mounts/once", map[string]any{"type": "once"})
	r := backendtest.NewReader(t, open(t, s.Addr(), root(s), nil), "/once/creds")
	reads := 0
	r.Until("the third", func() bool {
		reads++
		return r.Keys["/once/creds/user"] == "u3"
	})
	// Each lease is read for two of its three seconds, each 50 ms.
	if reads < 20 {
		t.Errorf("got the third credentials after %d reads, want them kept for many", reads)
	}

	// They end with the token that made them, however long their lease.
	s.Policy("once", `path "once/*" { capabilities = ["read"] }`)
	l := s.Login("userpass", "userpass", "once", "1h", "")
	r = backendtest.NewReader(t, open(t, s.Addr(), auth(t, "userpass", "", l), nil), "/once/long")
	r.Until("credentials", func() bool { return r.Keys["/once/long/user"] != "" })
	first := r.Keys["/once/long/user"]
	r.Alive(5)
	s.Write("sys/leases/revoke-prefix/auth/userpass", nil)
	r.Until("others", func() bool { return r.Keys["/once/long/user"] != first })
	r.Counts(0, 1)
}

func TestRead(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Put("kv1/a", value("x"))
	s.Put("kv2/b/c", value("y"))
	s.Put("kv2/d", value("not asked for"))
	store := open(t, s.Addr(), root(s), nil)
	c, err := store.Read(t.Context(), []string{"/kv2/b", "/kv1"})
	if got := fmt.Sprint(c.Full, c.Put, c.Deleted); err != nil || got != "true [{/kv1/a x 0 0 0} {/kv2/b/c y 0 0 0}] []" {
		t.Errorf("got %s, %v, want a and c", got, err)
	}
	s.Kill()
	want := "vault " + s.Addr() + ": dial tcp " + s.Addr() + ": connect: connection refused"
	if _, err := store.Read(t.Context(), []string{"/kv1"}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Memory, connections and goroutines stay as they are over 1,000 changes and
// several breaks.
func TestNothingGrows(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	relay := etcdtest.NewRelay(t, s.Addr())
	store, err := vault.New(vault.Config{Nodes: []string{relay.Addr()}, Auth: root(s), Interval: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r := backendtest.NewReader(t, store, "/kv1/k")
	r.Has("")
	round := func(n int) {
		for i := range n {
			s.Put(fmt.Sprintf("kv1/k/%d", i%10), value(fmt.Sprint(i)))
		}
		r.Until("the last change", func() bool { return r.Keys["/kv1/k/9"] == fmt.Sprint(n-1) })
	}
	round(100)
	goroutines := func() int { return runtime.NumGoroutine() - 5*relay.Conns() }
	heap, before := backendtest.Heap(), goroutines()
	for range 10 {
		round(100)
	}
	for i := range 5 {
		relay.Refuse()
		r.Until("it is away", func() bool { return len(r.Errors) > i })
		relay.Heal()
		s.Put("kv1/k/9", value("healed "+fmt.Sprint(i)))
		r.Until("it is back", func() bool { return r.Keys["/kv1/k/9"] == "healed "+fmt.Sprint(i) })
	}
	// As many as are read at once, and the one for what is asked before.
	proctest.Eventually(t, "few connections", func() bool { return relay.Conns() <= 9 })
	proctest.Eventually(t, "as many goroutines as before", func() bool { return goroutines() <= before })
	if grown := backendtest.Heap() - heap; grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
