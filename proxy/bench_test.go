package proxy_test

import (
	"io"
	"testing"

	"muster/internal/testserver"
	"muster/proxy"
)

// BenchmarkForward is a small request on a kept connection, through the proxy
// and straight to the origin; client and origin are in the same process.
func BenchmarkForward(b *testing.B) {
	raw := testserver.NewRaw(b, func(c *testserver.Conn, _ int) {
		for {
			if _, ok := c.Head(); !ok {
				return
			}
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		}
	})
	_, addr := start(b, proxy.Config{}, sole(endpoint("a", raw.Addr)))
	for _, bb := range []struct{ name, addr string }{{"straight", raw.Addr}, {"proxied", addr}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			c := testserver.Dial(b, bb.addr)
			for b.Loop() {
				c.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				res := c.Response(b, "GET")
				io.Copy(io.Discard, res.Body)
			}
		})
	}
}
