package etcd_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"muster/backends/etcd"
	"muster/internal/etcdtest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	certs := etcdtest.NewCerts(t)
	s := etcdtest.Start(t, etcdtest.TLS(certs))
	put(t, s, "/k", "v")
	follow(t, open(t, "etcds://"+s.Addr()+"?ca="+certs.CA, nil), nil, "/k").has("/k=v")
	follow(t, open(t, "etcd://"+s.Addr()+"?ca="+certs.CA, nil), nil, "/k").has("/k=v")

	insecure, err := etcd.New(etcd.Config{Nodes: []string{"https://" + s.Addr() + "/"}, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { insecure.Close() })
	follow(t, insecure, nil, "/k").has("/k=v")

	// The system's roots don't know it.
	w := follow(t, open(t, "etcds://"+s.Addr(), nil), nil, "/k")
	w.broken()
	w.said("certificate")
	w.counts(1, 0)
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	certs := etcdtest.NewCerts(t)
	s := etcdtest.Start(t, etcdtest.MutualTLS(certs))
	store := open(t, "etcds://"+s.Addr()+"?ca="+certs.CA+"&cert="+certs.ClientCert+"&key="+certs.ClientKey, nil)
	l := store.Lease(time.Minute)
	hold(t, l)
	write(t, l, "/k", "v")
	follow(t, store, nil, "/k").has("/k=v")

	w := follow(t, open(t, "etcds://"+s.Addr()+"?ca="+certs.CA, nil), nil, "/k")
	w.broken()
	w.counts(1, 0)
}

func TestUserAndPassword(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Auth("muster", "p@ss/word", "/services/"))
	put(t, s, "/services/web/1", "v")
	put(t, s, "/services", "not allowed")
	put(t, s, "/other/1", "not allowed")
	url := "etcd://muster:p%40ss%2Fword@" + s.Addr()

	// It may read what lies below /services/ only: that it gets.
	store := open(t, url, nil)
	w := follow(t, store, nil, "/services")
	w.has("/services/web/1=v")
	put(t, s, "/services/web/2", "v")
	w.has("/services/web/1=v", "/services/web/2=v")
	w.counts(0, 1)

	l := store.Lease(time.Minute)
	hold(t, l)
	write(t, l, "/services/web/3", "v")
	w.has("/services/web/1=v", "/services/web/2=v", "/services/web/3=v")

	for url, want := range map[string]string{
		"etcd://" + s.Addr():          "etcd " + s.Addr() + ": user name is empty",
		"etcd://muster:x@" + s.Addr(): "etcd " + s.Addr() + ": authentication failed, invalid user ID or password",
	} {
		w := follow(t, open(t, url, nil), nil, "/services")
		w.broken()
		time.Sleep(time.Second) // more attempts
		w.counts(1, 0)
		w.said(want)
	}
	w = follow(t, store, nil, "/other")
	w.broken()
	w.said("permission denied")
	time.Sleep(time.Second) // more attempts
	w.counts(1, 0)

	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("p@ss/word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile := open(t, "etcd://muster@"+s.Addr()+"?password=file:"+file, nil)
	follow(t, fromFile, nil, "/services").has("/services/web/1=v", "/services/web/2=v", "/services/web/3=v")
}

// An etcd that does not answer the login is said to be just that.
func TestSlowLogin(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Auth("muster", "secret"))
	s.Stop()
	w := follow(t, open(t, "etcd://muster:secret@"+s.Addr(), nil), nil, "/services")
	w.broken()
	w.said("etcd " + s.Addr() + `: no answer in time to the login of "muster"`)
	s.Cont()
	w.has()
}

// A login runs out; the stream goes on without it, and the next takes a new one.
func TestLoginRunsOut(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Auth("muster", "secret"), etcdtest.TokenTTL(1))
	r := etcdtest.NewRelay(t, s.Addr())
	put(t, s, "/services/web/1", "v")
	store := open(t, "etcd://muster:secret@"+r.Addr(), nil)
	w := follow(t, store, nil, "/services")
	w.has("/services/web/1=v")
	l := store.Lease(3 * time.Second)
	hold(t, l)
	write(t, l, "/services/web/2", "v")
	time.Sleep(4 * time.Second) // more than the login is good for
	write(t, l, "/services/web/3", "v")
	w.has("/services/web/1=v", "/services/web/2=v", "/services/web/3=v")
	w.counts(0, 1)
	w.mark()
	r.Cut()
	w.until("it is Full again", func() bool { return w.fulls == 1 })
	w.alive(2)
	w.want("1 errors, 1 full")
}
