package zookeeper_test

import (
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/zookeeper"
	"muster/internal/etcdtest"
	"muster/internal/storeaddr"
	"muster/internal/zktest"
)

func TestTLS(t *testing.T) {
	certs, strangers := etcdtest.NewCerts(t), etcdtest.NewCerts(t)
	s := zktest.StartTLS(t, certs)
	relay := etcdtest.NewRelay(t, s.SecureAddr())
	s.Put("/k/1", "a")
	pair := "&cert=" + certs.ClientCert + "&key=" + certs.ClientKey
	r := backendtest.NewReader(t, open(t, "zks://"+relay.Addr()+"?ca="+certs.CA+pair, nil), "/k")
	r.Has("/k/1=a")
	s.Put("/k/2", "b")
	r.Has("/k/1=a /k/2=b")
	fulls := r.Fulls
	relay.Cut()
	r.Until("it is Full again", func() bool { return r.Fulls > fulls })
	broken := len(r.Errors)
	s.Kill()
	r.Until("it is away", func() bool { return len(r.Errors) > broken })
	s.Restart()
	s.Put("/k/1", "c")
	r.Has("/k/1=c /k/2=b")

	for name, test := range map[string]struct{ url, want string }{
		"no certificate":           {"zks://" + s.SecureAddr() + "?ca=" + certs.CA, "certificate"},
		"a stranger's certificate": {"zks://" + s.SecureAddr() + "?ca=" + certs.CA + "&cert=" + strangers.ClientCert + "&key=" + strangers.ClientKey, "certificate"},
		"a server of a stranger":   {"zks://" + s.SecureAddr() + "?ca=" + strangers.CA + pair, "certificate signed by unknown authority"},
		"no TLS":                   {"zk://" + s.SecureAddr(), "connection closed"},
		"TLS where is none":        {"zks://" + s.Addr() + "?ca=" + certs.CA + pair, "zookeeper " + s.Addr() + ": "},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.NewReader(t, open(t, test.url, nil), "/k").Fails(test.want)
		})
	}
}

// The contract counts with TLS too, and with the files that confd is given beside a
// node.
func TestTLSContract(t *testing.T) {
	certs := etcdtest.NewCerts(t)
	s := zktest.StartTLS(t, certs)
	s.Put("/beside", "x") // also makes the client, whose goroutines are not the store's
	backendtest.Run(t, backendtest.Harness{
		Open: func(t testing.TB) backends.Store {
			store, err := zookeeper.New(zookeeper.Config{
				Nodes: []string{"zks://" + s.SecureAddr()},
				Files: storeaddr.TLS{CA: certs.CA, Cert: certs.ClientCert, Key: certs.ClientKey},
			})
			if err != nil {
				t.Fatal(err)
			}
			return store
		},
		Put:       func(_ testing.TB, key, value string) { s.Put(key, value) },
		Delete:    func(_ testing.TB, key string) { s.Delete(key) },
		Stop:      func(testing.TB) { s.Kill() },
		Start:     func(testing.TB) { s.Restart() },
		Revisions: true,
	})
}
