package portable_test

import (
	"testing"

	"muster/internal/testserver"
	"muster/proxy/balance"
	"muster/proxy/portable"
)

// Only who may still send is waited for when a connection ends: a client that
// asked for the end, and sent nothing behind its request, has it at once.
func TestLinger(t *testing.T) {
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		for {
			if _, ok := c.Head(); !ok {
				return
			}
			c.Send("HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	_, addr := serve(t, portable.Config{Tally: new(balance.Tally)}, "/", raw.Addr)
	for name, tt := range map[string]struct {
		request string
		waited  bool
	}{
		"asked":               {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false},
		"HTTP/1.0":            {"GET / HTTP/1.0\r\nHost: x\r\n\r\n", false},
		"asked, and sent on":  {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n", true},
		"refused by the head": {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nHost: x\r\n\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := testserver.Dial(t, addr)
			c.Send(tt.request)
			if _, err := c.Rest(); err != nil {
				t.Fatal(err)
			}
			// The first byte brings a reset where the connection is closed.
			_, err := c.Conn.Write([]byte("x"))
			if err == nil {
				_, err = c.Conn.Write([]byte("x"))
			}
			if waited := err == nil; waited != tt.waited {
				t.Errorf("%v, waited for: %v, want %v", err, waited, tt.waited)
			}
		})
	}
}
