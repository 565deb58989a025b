package confd_test

import (
	"fmt"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/redistest"
)

// redisCommand is what a script may do with a Redis: redis start [FLAG...] runs
// one, at $REDIS; redis start-auth one with a password; redis start-tls one with
// TLS too and its CA at $CA; redis start-cluster three that are a cluster; redis kill, restart; redis clients N waits until confd
// has N connections; redis do COMMAND ARG... anything else.
type redisCommand struct {
	t      *testing.T
	server *redistest.Server
}

func (c *redisCommand) run(ts *testscript.TestScript, _ bool, args []string) {
	switch args[0] {
	case "start":
		c.start(ts, redistest.Config{Flags: args[1:]})
	case "start-auth":
		c.start(ts, redistest.Config{Password: "pass-word"})
	case "start-tls":
		certs := etcdtest.NewCerts(c.t)
		ts.Setenv("CA", certs.CA)
		c.start(ts, redistest.Config{Certs: &certs, Password: "pass-word"})
	case "start-cluster":
		c.server = redistest.Cluster(c.t, 3)[0]
		ts.Setenv("REDIS", c.server.Addr())
	case "kill":
		c.server.Kill()
	case "restart":
		c.server.Restart()
	case "clients":
		proctest.Eventually(c.t, args[1]+" connections", func() bool { return fmt.Sprint(c.server.Clients("muster")) == args[1] })
	case "do":
		rest := make([]any, len(args)-2)
		for i, arg := range args[2:] {
			rest[i] = arg
		}
		c.server.Do(args[1], rest...)
	default:
		ts.Fatalf("redis %s: unknown", args[0])
	}
}

func (c *redisCommand) start(ts *testscript.TestScript, conf redistest.Config) {
	c.server = redistest.Start(c.t, conf)
	ts.Setenv("REDIS", c.server.Addr())
}
