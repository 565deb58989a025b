package confd_test

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"muster/internal/proctest"
	"muster/internal/ranchertest"
)

// rancherCommand is what a script may do with a metadata service: rancher start
// runs one, at $RANCHER, rancher stop and rancher restart; rancher put PATH VALUE,
// del PATH; rancher forget leaves it with no answers. One that was stopped is
// rancher deaf: it hears every question and hangs up. rancher asked N says that there
// were so many, and counts anew; rancher asked waits until there is one.
type rancherCommand struct {
	t      *testing.T
	server *ranchertest.Server
	deaf   net.Listener
	asked  atomic.Int64
}

func (c *rancherCommand) run(ts *testscript.TestScript, _ bool, args []string) {
	switch args[0] {
	case "start":
		c.server = ranchertest.Start(c.t, ranchertest.Config{})
		ts.Setenv("RANCHER", c.server.Addr())
	case "stop":
		c.server.Stop()
	case "restart":
		c.server.Stop()
		if c.deaf != nil {
			c.deaf.Close()
			c.deaf = nil
		}
		c.server.Start()
	case "put":
		c.server.Put(args[1], args[2])
	case "del":
		c.server.Delete(args[1])
	case "forget":
		c.server.Forget()
	case "deaf":
		l, err := net.Listen("tcp", c.server.Addr())
		ts.Check(err)
		c.deaf = l
		c.t.Cleanup(func() { l.Close() })
		go c.hangUp(l)
	case "asked":
		if len(args) == 1 {
			proctest.Eventually(c.t, "a question", func() bool { return c.asked.Load() > 0 })
		} else if got := fmt.Sprint(c.asked.Swap(0)); got != args[1] {
			ts.Fatalf("asked %s times, want %s", got, args[1])
		}
	default:
		ts.Fatalf("rancher %s: unknown", args[0])
	}
}

func (c *rancherCommand) hangUp(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 4096))
		c.asked.Add(1)
		conn.Close()
	}
}
