package etcdtest

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// freeAddr returns a free loopback address whose port lies below the ports that
// systems hand out by themselves. One of those could be taken while a server is
// down for a moment, and a client that dials its own port even connects to
// itself.
func freeAddr() (string, error) {
	var err error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", err
}
