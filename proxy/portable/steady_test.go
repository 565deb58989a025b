//go:build !race

// The race detector has pools forget at random, and so there are allocations.

package portable_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"muster/internal/testserver"
	"muster/proxy/balance"
	"muster/proxy/portable"
)

// steady are exchanges as they come thousands of times: request and answer, byte
// by byte as long.
var steady = []struct{ name, request, answer string }{
	{"GET 200 B", browser("GET", ""), "HTTP/1.1 200 OK\r\nServer: x\r\nDate: now\r\nContent-Type: text/plain\r\nContent-Length: 200\r\n\r\n" + strings.Repeat("x", 200)},
	{"GET 16 KiB", browser("GET", ""), "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 16384\r\n\r\n" + strings.Repeat("x", 16<<10)},
	{"GET 64 KiB", browser("GET", ""), "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 65536\r\n\r\n" + strings.Repeat("x", 64<<10)},
	{"GET chunked", browser("GET", ""), "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"},
	{"POST 1 KiB", browser("POST", "Content-Length: 1024\r\n") + strings.Repeat("x", 1<<10), "HTTP/1.1 204 No Content\r\n\r\n"},
	{"POST chunked", browser("POST", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"},
	{"POST 100 KiB", browser("POST", "Content-Length: 102400\r\n") + strings.Repeat("x", 100<<10), "HTTP/1.1 204 No Content\r\n\r\n"},
}

func browser(method, more string) string {
	return method + " /a?b=c HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n" + more + "\r\n"
}

// A pair is a client and an origin that do one exchange after the other and
// allocate nothing.
type pair struct {
	client       net.Conn
	request      []byte
	answerLength int
	buf          []byte
}

// newPair learns how long the forwarded messages are.
func newPair(t testing.TB, c portable.Config, request, answer string) *pair {
	body := len(request) - strings.Index(request, "\r\n\r\n") - 4
	chunked := strings.Contains(request, "chunked")
	raw := testserver.NewRaw(t, func(c *testserver.Conn, _ int) {
		buf := make([]byte, 64<<10)
		out := []byte(answer)
		end := []byte("\r\n\r\n")
		for {
			n, at := 0, -1
			for {
				m, err := c.Conn.Read(buf[n:])
				if err != nil {
					return
				}
				n += m
				if at = bytes.Index(buf[:n], end); at >= 0 {
					break
				}
			}
			if chunked {
				for !bytes.HasSuffix(buf[:n], []byte("0\r\n\r\n")) {
					m, err := c.Conn.Read(buf[n:])
					if err != nil {
						return
					}
					n += m
				}
			} else {
				for left := body - (n - at - 4); left > 0; {
					m, err := c.Conn.Read(buf)
					if err != nil {
						return
					}
					left -= m
				}
			}
			if _, err := c.Conn.Write(out); err != nil {
				return
			}
		}
	})
	_, addr := serve(t, c, "/", raw.Addr)
	client, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	client.SetDeadline(time.Now().Add(10 * testserver.Patience))
	p := &pair{client: client, request: []byte(request), buf: make([]byte, 128<<10)}
	// The first answer is as long as all others.
	client.Write(p.request)
	var read bytes.Buffer
	br := bufio.NewReader(io.TeeReader(client, &read))
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	p.answerLength = read.Len() - br.Buffered()
	return p
}

func (p *pair) exchange(t testing.TB) {
	if _, err := p.client.Write(p.request); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(p.client, p.buf[:p.answerLength]); err != nil {
		t.Fatal(err)
	}
}

// Nothing is allocated for a request on connections that are there.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	for _, tt := range steady {
		t.Run(tt.name, func(t *testing.T) {
			var records atomic.Int64
			c := portable.Config{Tally: new(balance.Tally), Record: func(r *balance.Record) { records.Add(int64(r.Tries)) }}
			p := newPair(t, c, tt.request, tt.answer)
			for range 200 {
				p.exchange(t)
			}
			if n := testing.AllocsPerRun(500, func() { p.exchange(t) }); n != 0 {
				t.Errorf("%v allocations for a request, want none", n)
			}
			if n := records.Load(); n < 700 {
				t.Errorf("%d records, want one for each request", n)
			}
		})
	}
}

// BenchmarkSteady is the same, client and origin included; cpu-us is what the
// whole process spends.
func BenchmarkSteady(b *testing.B) {
	for _, tt := range steady {
		b.Run(tt.name, func(b *testing.B) {
			p := newPair(b, portable.Config{Tally: new(balance.Tally)}, tt.request, tt.answer)
			for range 100 {
				p.exchange(b)
			}
			b.ReportAllocs()
			before := cpu()
			b.ResetTimer()
			for b.Loop() {
				p.exchange(b)
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// cpu is what this process has spent so far.
func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
