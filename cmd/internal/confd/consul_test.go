package confd_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"muster/internal/consultest"
	"muster/internal/etcdtest"
)

// consulCommand is what a script may do with a Consul: consul start runs one, at
// $CONSUL; consul start-acl one that wants tokens; consul start-tls one with TLS
// that wants a client's certificate, its files at $CA, $CERT and $KEY; consul kill,
// restart; consul put KEY VALUE, del KEY; consul token NAME RULES makes a token, at
// $NAME; consul proxy USER PASSWORD puts a proxy with basic authentication before
// it, at $PROXY.
type consulCommand struct {
	t      *testing.T
	server *consultest.Server
}

func (c *consulCommand) run(ts *testscript.TestScript, _ bool, args []string) {
	switch args[0] {
	case "start":
		c.start(ts, consultest.Config{})
	case "start-acl":
		c.start(ts, consultest.Config{ACL: true})
	case "start-tls":
		certs := etcdtest.NewCerts(c.t)
		ts.Setenv("CA", certs.CA)
		ts.Setenv("CERT", certs.ClientCert)
		ts.Setenv("KEY", certs.ClientKey)
		c.start(ts, consultest.Config{Certs: &certs})
	case "kill":
		c.server.Kill()
	case "restart":
		c.server.Restart()
	case "put":
		c.server.Put(args[1], args[2])
	case "del":
		c.server.Delete(args[1])
	case "proxy":
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: c.server.Addr()})
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != args[1] || password != args[2] {
				http.Error(w, "wrong user or password", http.StatusUnauthorized)
				return
			}
			proxy.ServeHTTP(w, r)
		}))
		c.t.Cleanup(func() {
			s.Close()
			http.DefaultTransport.(*http.Transport).CloseIdleConnections() // the proxy's
		})
		ts.Setenv("PROXY", s.Listener.Addr().String())
	case "token":
		ts.Setenv(args[1], c.server.Token(args[2]))
	default:
		ts.Fatalf("consul %s: unknown", args[0])
	}
}

func (c *consulCommand) start(ts *testscript.TestScript, conf consultest.Config) {
	c.server = consultest.Start(c.t, conf)
	ts.Setenv("CONSUL", c.server.Addr())
}
