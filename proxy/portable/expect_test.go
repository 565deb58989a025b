package portable_test

import (
	"io"
	"testing"

	"muster/internal/testserver"
	"muster/proxy/balance"
	"muster/proxy/portable"
)

// An endpoint that says nothing to Expect: 100-continue leaves the client
// waiting for a second; then the body is asked for here.
func TestExpectInVain(t *testing.T) {
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		for {
			if _, ok := c.Head(); !ok {
				return
			}
			io.CopyN(io.Discard, c, 4)
			c.Send("HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	_, addr := serve(t, portable.Config{Tally: new(balance.Tally)}, "/", raw.Addr)
	c := testserver.Dial(t, addr)
	for range 2 {
		c.Send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		if head, _ := c.Head(); head != "HTTP/1.1 100 Continue\r\n\r\n" {
			t.Fatalf("head %q, want a 100", head)
		}
		c.Send("body")
		if res := c.Response(t, "POST"); res.StatusCode != 204 || res.Close {
			t.Errorf("status %d, close %v, want 204 and the connection kept", res.StatusCode, res.Close)
		}
	}
	if raw.Conns() != 1 {
		t.Errorf("%d connections, want one: the body went whole", raw.Conns())
	}
}
