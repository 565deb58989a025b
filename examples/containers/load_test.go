//go:build containers

package containers_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/proctest"
)

// A load sends requests at a fixed rate over kept connections, whether or not
// answers come, and counts who answered.
type load struct {
	client *http.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	paused   bool
	running  int            // requests without an answer
	answers  map[string]int // by container
	failures []failure
}

// A failure is a request that was not answered with 200.
type failure struct {
	from, to time.Time
	why      string
}

func (f failure) String() string {
	return fmt.Sprintf("%s, %v after it was sent at %s", f.why, f.to.Sub(f.from).Round(time.Millisecond), f.from.Format("05.000"))
}

func startLoad(t *testing.T, url string, perSecond int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	l := &load{client: &http.Client{Transport: transport, Timeout: proctest.Patience}, cancel: cancel, answers: make(map[string]int)}
	l.wg.Go(func() {
		defer transport.CloseIdleConnections()
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.mu.Lock()
				paused := l.paused
				l.mu.Unlock()
				if !paused {
					l.begin(url)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// begin sends a request, which then is under way.
func (l *load) begin(url string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running++
	from := time.Now()
	l.wg.Go(func() {
		who, why := l.ask(url)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running--
		if why != "" {
			l.failures = append(l.failures, failure{from, time.Now(), why})
			return
		}
		l.answers[who]++
	})
}

// slow sends ten requests whose answers take a second.
func (l *load) slow(url string) {
	for range 10 {
		l.begin(url + "?delay=1s")
	}
}

// ask returns who answered, or why nobody did.
func (l *load) ask(url string) (who, why string) {
	resp, err := l.client.Get(url)
	if err != nil {
		return "", err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "body: " + err.Error()
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Sprintf("%s %s %q", resp.Status, resp.Header.Get("Proxy-Status"), body)
	}
	_, who, _ = strings.Cut(strings.TrimSpace(string(body)), " ") // VERSION CONTAINER
	return who, ""
}

// idle runs do while no request is under way, so that every connection is a
// kept one that waits.
func (l *load) idle(t *testing.T, do func()) {
	t.Helper()
	l.pause(true)
	defer l.pause(false)
	proctest.Eventually(t, "the last answer", func() bool { return l.underWay() == 0 })
	do()
}

func (l *load) pause(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = paused
}

func (l *load) underWay() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running
}

// followed waits until names answer, each 20 times, and nobody else does.
func (l *load) followed(t *testing.T, names ...string) {
	t.Helper()
	start := l.counts()
	proctest.Eventually(t, fmt.Sprintf("%q answer, and no other", names), func() bool {
		now := l.counts()
		for who, n := range now {
			if n > start[who] && !slices.Contains(names, who) {
				start = now
				return false
			}
		}
		return !slices.ContainsFunc(names, func(name string) bool { return now[name] < start[name]+20 })
	})
}

func (l *load) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.answers)
}

// want fails the test if more requests than that have failed since the last call.
func (l *load) want(t *testing.T, when string, atMost int) {
	t.Helper()
	l.mu.Lock()
	failures := l.failures
	l.failures = nil
	l.mu.Unlock()
	if len(failures) > atMost {
		t.Errorf("%s: %d requests failed, want at most %d: %v", when, len(failures), atMost, failures[:min(5, len(failures))])
		return
	}
	t.Logf("%s: %d requests failed", when, len(failures))
	for _, failure := range failures {
		t.Log(failure)
	}
}
