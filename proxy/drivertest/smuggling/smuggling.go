package smuggling

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/proxy/drivertest"
)

// lanes is how many proxies send messages to one origin at the same time; each
// has its own connections to it.
const lanes = 4

// patience bounds what must happen.
const patience = 30 * time.Second

// config has short times, so that a message that nobody ends does not take long.
const config = `
[[listener]]
bind = "127.0.0.1:0"
timeout = { header = "300ms", body = "300ms" }
[defaults]
timeout = { response = "2s" }
[log]
access = "off"
[service.web]
endpoints = [%q]
`

var discardLog = log.New(io.Discard, "", 0)

// Run sends messages through proxies of start to every origin. It takes every
// nth of the pairs, or all of them where MUSTER_SMUGGLING is "all".
func Run(t *testing.T, start drivertest.Start, nth int) {
	if os.Getenv("MUSTER_SMUGGLING") == "all" {
		nth = 1
	}
	for name, open := range origins {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			r := try(t, start, o, samples(nth))
			for _, fault := range r.faults {
				t.Error(fault)
			}
			t.Logf("%d messages, of which %d were refused or ended and %d forwarded", r.messages, r.messages-r.forwarded, r.forwarded)
		})
	}
}

// A result is what became of all messages to one origin.
type result struct {
	messages  int
	forwarded int      // the origin saw them
	faults    []string // what was wrong
}

// try sends all messages to o.
func try(t testing.TB, start drivertest.Start, o *origin, all []sample) result {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
		r  = result{messages: len(all)}
	)
	names := make(map[string]string) // id → sample
	for lane := range lanes {
		addr, stop, err := start(t, fmt.Sprintf(config, o.addr))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer stop()
			for i := lane; i < len(all); i += lanes {
				id := fmt.Sprintf("%d.", i)
				fault := exchange(addr, id, all[i].build(id))
				mu.Lock()
				names[id] = all[i].name
				if fault != nil {
					r.faults = append(r.faults, fmt.Sprintf("%s: %s: %v", o.name, all[i].name, fault))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r.judge(o.name, o.seen(t), names)
	return r
}

var (
	ours       = regexp.MustCompile(`^[0-9a-f]{32}$`)
	targetForm = regexp.MustCompile(`/(attack|hidden|marked|victim)-(\d+\.)`)
)

// judge looks at what the origin saw.
func (r *result) judge(origin string, seen []request, names map[string]string) {
	ids := make(map[string]string)
	for _, s := range seen {
		m := targetForm.FindStringSubmatch(s.target)
		if m == nil {
			if !strings.Contains(s.target, "/that-is-all") {
				r.faults = append(r.faults, fmt.Sprintf("%s saw a request that nobody sent: %q", origin, s.target))
			}
			continue
		}
		if m[1] == "attack" {
			r.forwarded++
		}
		switch {
		case s.refused && m[1] == "attack": // its own, which the origin does not like
			continue
		case !ours.MatchString(s.id):
			r.faults = append(r.faults, fmt.Sprintf("%s: %s: it saw %q, which the proxy did not (id %q)", origin, names[m[2]], s.target, s.id))
		case ids[s.id] != "" && ids[s.id] != s.target: // the same twice was sent again
			r.faults = append(r.faults, fmt.Sprintf("%s: %s: it saw %q and %q with one id", origin, names[m[2]], s.target, ids[s.id]))
		}
		ids[s.id] = s.target
	}
}

// exchange sends one message with a marked request behind it, and then, by
// another connection, the request of a stranger. It says which answer was wrong.
func exchange(addr, id, message string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	marked := "GET /marked-" + id + " HTTP/1.1\r\nHost: marked.test\r\n\r\n"
	go io.WriteString(c, message+marked)
	method, _, _ := strings.Cut(strings.TrimSpace(message), " ")
	if err := answers(c, id, method); err != nil {
		return err
	}
	for range 5 {
		if err = stranger(addr, id); !errors.Is(err, errNoAnswer) {
			break // on a busy machine the proxy's patience ends before a request comes
		}
	}
	return err
}

var errNoAnswer = errors.New("no answer")

// answers reads until the marked request is answered, or the connection ends.
func answers(c net.Conn, id, method string) error {
	order := []string{"attack", "hidden", "marked"}
	r := bufio.NewReader(c)
	for n := 0; ; n++ {
		if n > 0 {
			method = "GET"
		}
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("no answer after %v", patience)
		}
		if err != nil {
			return nil // it is over
		}
		if res.StatusCode < 200 {
			n--
			if res.StatusCode == http.StatusSwitchingProtocols {
				return nil
			}
			continue
		}
		_, err = io.Copy(io.Discard, res.Body)
		echo := res.Header.Get("X-Echo")
		if echo == "" && res.Header.Get("Proxy-Status") == "" && res.StatusCode == http.StatusOK {
			return nil // OPTIONS * and the like
		}
		if echo == "" {
			if err != nil || res.Close {
				return nil
			}
			continue // an answer of the proxy, or an error of the origin
		}
		m := targetForm.FindStringSubmatch(echo)
		if m == nil || m[2] != id {
			return fmt.Errorf("answer %d is that to %q", n+1, echo)
		}
		for len(order) > 0 && order[0] != m[1] {
			order = order[1:]
		}
		if len(order) == 0 {
			return fmt.Errorf("answer %d is that to %q, out of order", n+1, echo)
		}
		order = order[1:]
		if err != nil || res.Close || m[1] == "marked" {
			return nil
		}
	}
}

// stranger sends a request by a connection of its own, which must be answered
// as itself.
func stranger(addr, id string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "GET /victim-"+id+" HTTP/1.1\r\nHost: victim.test\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return fmt.Errorf("a stranger's request: %w: %w", errNoAnswer, err)
	}
	if echo := res.Header.Get("X-Echo"); echo != "/victim-"+id {
		return fmt.Errorf("a stranger's request got status %d and the answer to %q", res.StatusCode, echo)
	}
	return nil
}
