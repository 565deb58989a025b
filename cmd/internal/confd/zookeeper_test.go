package confd_test

import (
	"testing"

	"github.com/go-zookeeper/zk"
	"github.com/rogpeppe/go-internal/testscript"

	"muster/internal/etcdtest"
	"muster/internal/zktest"
)

// zookeeperCommand is what a script may do with a ZooKeeper: zookeeper start runs
// one, at $ZOOKEEPER; zookeeper start-tls one that wants a client's certificate, its
// files at $CA, $CERT and $KEY; zookeeper kill, restart; zookeeper put KEY VALUE, del KEY;
// zookeeper secret KEY USER PASSWORD makes a node that only the user may read.
type zookeeperCommand struct {
	t      *testing.T
	server *zktest.Server
}

func (c *zookeeperCommand) run(ts *testscript.TestScript, _ bool, args []string) {
	switch args[0] {
	case "start":
		c.server = zktest.Start(c.t)
		ts.Setenv("ZOOKEEPER", c.server.Addr())
	case "start-tls":
		certs := etcdtest.NewCerts(c.t)
		ts.Setenv("CA", certs.CA)
		ts.Setenv("CERT", certs.ClientCert)
		ts.Setenv("KEY", certs.ClientKey)
		c.server = zktest.StartTLS(c.t, certs)
		ts.Setenv("ZOOKEEPER", c.server.SecureAddr())
	case "kill":
		c.server.Kill()
	case "restart":
		c.server.Restart()
	case "put":
		c.server.Put(args[1], args[2])
	case "del":
		c.server.Delete(args[1])
	case "secret":
		_, err := c.server.Client().Create(args[1], []byte("hidden"), 0, zk.DigestACL(zk.PermAll, args[2], args[3]))
		ts.Check(err)
	default:
		ts.Fatalf("zookeeper %s: unknown", args[0])
	}
}
