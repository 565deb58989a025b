package portable_test

import (
	"strings"
	"testing"

	"muster/internal/testserver"
	"muster/proxy/balance"
	"muster/proxy/portable"
)

// An idle connection on which something comes that nobody asked for, or that the
// endpoint closed, is given up though nobody wants to use it.
func TestIdleConnectionsAreSwept(t *testing.T) {
	for name, unasked := range map[string]func(c *testserver.Conn){
		"answer": func(c *testserver.Conn) { c.Send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n") },
		"end":    func(c *testserver.Conn) { c.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan string, 1)
			raw := testserver.NewRaw(t, func(c *testserver.Conn, n int) {
				c.Head()
				c.Send("HTTP/1.1 204 No Content\r\n\r\n")
				if n == 0 {
					unasked(c)
					text, _ := c.Rest()
					ended <- text
				}
			})
			_, addr := serve(t, portable.Config{Tally: new(balance.Tally)}, "/", raw.Addr)
			c := testserver.Dial(t, addr)
			c.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if res := c.Response(t, "GET"); res.StatusCode != 204 {
				t.Fatalf("status %d, want 204", res.StatusCode)
			}
			if text := <-ended; text != "" { // the sweep, without another request
				t.Errorf("the endpoint got %q, want the end", text)
			}
			c.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if res := c.Response(t, "GET"); res.StatusCode != 204 || raw.Conns() != 2 {
				t.Errorf("status %d, %d connections, want 204 and a second one", res.StatusCode, raw.Conns())
			}
		})
	}
}

// What came on an idle connection a moment before it is used again is nobody's
// answer: another connection is taken, whatever the request is like.
func TestUnaskedAnswerReachesNobody(t *testing.T) {
	for name, second := range map[string]string{
		"head alone": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"short body": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
		"long body":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n" + strings.Repeat("x", 64<<10),
	} {
		t.Run(name, func(t *testing.T) {
			answered, sent := make(chan bool), make(chan bool)
			raw := testserver.NewRaw(t, func(c *testserver.Conn, n int) {
				c.Head()
				c.Send("HTTP/1.1 204 No Content\r\n\r\n")
				if n == 0 {
					<-answered
					c.Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
					sent <- true
				}
				c.Rest()
			})
			_, addr := serve(t, portable.Config{Tally: new(balance.Tally)}, "/", raw.Addr)
			c := testserver.Dial(t, addr)
			c.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			c.Response(t, "GET")
			answered <- true
			<-sent
			c.Send(second)
			if res := c.Response(t, "POST"); res.StatusCode != 204 || raw.Conns() != 2 {
				t.Errorf("status %d, %d connections, want 204 and a second one", res.StatusCode, raw.Conns())
			}
		})
	}
}
