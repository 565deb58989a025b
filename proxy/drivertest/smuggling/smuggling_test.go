package smuggling

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The messages must bite: behind proxies that are as lax as many have been, real
// servers see requests that the proxy did not.
func TestLaxProxies(t *testing.T) {
	for name, framed := range map[string]func([]string) (int64, bool){
		"length first": func(head []string) (int64, bool) {
			n, ok := lengthOf(head)
			return n, !ok && chunkedOf(head)
		},
		"chunks first": func(head []string) (int64, bool) {
			n, _ := lengthOf(head)
			return n, chunkedOf(head)
		},
	} {
		for _, to := range []string{"go", "node-lax"} {
			t.Run(name+"/"+to, func(t *testing.T) {
				t.Parallel()
				start := func(_ testing.TB, config string) (string, func(), error) { return startLax(config, framed) }
				r := try(t, start, origins[to](t), samples(500))
				n := 0
				for _, fault := range r.faults {
					if strings.Contains(fault, `it saw "/hidden-`) {
						n++
					}
				}
				t.Logf("%d messages, %d forwarded, %d hidden requests seen, %d faults", r.messages, r.forwarded, n, len(r.faults))
				if n == 0 {
					t.Errorf("no hidden request came to light behind a lax proxy: the messages are harmless")
				}
			})
		}
	}
}

// laxPatience is how long a lax proxy waits for anybody.
const laxPatience = 100 * time.Millisecond

// A lax proxy passes heads on as they are, and reads as much of them as it
// thinks it needs.
type lax struct {
	origin string
	framed func([]string) (int64, bool)

	mu   sync.Mutex
	idle []net.Conn
}

var endpointOf = regexp.MustCompile(`endpoints = \["([^"]*)"\]`)

func startLax(config string, framed func([]string) (int64, bool)) (string, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	p := &lax{origin: endpointOf.FindStringSubmatch(config)[1], framed: framed}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for p.exchange(c, r) == nil {
				}
			})
		}
	})
	return l.Addr().String(), func() {
		l.Close()
		wg.Wait()
		for _, c := range p.idle {
			c.Close()
		}
	}, nil
}

// exchange passes on one request and its answer.
func (p *lax) exchange(c net.Conn, r *bufio.Reader) error {
	c.SetDeadline(time.Now().Add(laxPatience))
	var head []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimRight(line, "\r\n") == "" {
			if len(head) == 0 {
				continue
			}
			break
		}
		head = append(head, line)
	}
	var out bytes.Buffer
	out.WriteString(head[0])
	id := make([]byte, 16)
	rand.Read(id)
	out.WriteString("X-Request-Id: " + hex.EncodeToString(id) + "\r\n" + strings.Join(head[1:], "") + "\r\n")
	length, chunked := p.framed(head[1:])
	if chunked {
		if err := copyChunks(&out, r); err != nil {
			return err
		}
	} else if _, err := io.CopyN(&out, r, length); err != nil {
		return err
	}
	up, err := p.take()
	if err != nil {
		return err
	}
	up.SetDeadline(time.Now().Add(laxPatience))
	up.Write(out.Bytes())
	method, _, _ := strings.Cut(head[0], " ")
	ur := bufio.NewReader(up)
	res, err := http.ReadResponse(ur, &http.Request{Method: method})
	for err == nil && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		res, err = http.ReadResponse(ur, &http.Request{Method: method})
	}
	if err == nil {
		err = res.Write(c)
	}
	if err != nil || res.Close {
		up.Close()
		return io.ErrUnexpectedEOF
	}
	p.mu.Lock()
	p.idle = append(p.idle, up)
	p.mu.Unlock()
	return nil
}

func (p *lax) take() (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return c, nil
	}
	return net.Dial("tcp", p.origin)
}

// copyChunks reads sizes as far as they are digits, and lines to LF.
func copyChunks(w io.Writer, r *bufio.Reader) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		io.WriteString(w, line)
		digits := strings.TrimLeft(strings.TrimSpace(line), "+")
		if i := strings.IndexFunc(digits, func(c rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", c) }); i >= 0 {
			digits = digits[:i]
		}
		n, err := strconv.ParseInt(digits, 16, 32)
		if err != nil {
			return err
		}
		if n == 0 {
			for strings.TrimRight(line, "\r\n") != "" {
				if line, err = r.ReadString('\n'); err != nil {
					return err
				}
				io.WriteString(w, line)
			}
			return nil
		}
		if _, err := io.CopyN(w, r, n); err != nil {
			return err
		}
		if line, err = r.ReadString('\n'); err != nil {
			return err
		}
		io.WriteString(w, line)
	}
}

// lengthOf is the first Content-Length, as far as it is digits.
func lengthOf(head []string) (n int64, ok bool) {
	for _, line := range head {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(strings.TrimSpace(name), "Content-Length") {
			for _, c := range strings.TrimLeft(value, " \t+") {
				if c < '0' || c > '9' || n > 1<<20 {
					break
				}
				n = n*10 + int64(c-'0')
			}
			return n, true
		}
	}
	return 0, false
}

// chunkedOf reports whether a Transfer-Encoding has the word in it.
func chunkedOf(head []string) bool {
	for _, line := range head {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(strings.TrimSpace(name), "Transfer-Encoding") && strings.Contains(strings.ToLower(value), "chunked") {
			return true
		}
	}
	return false
}
