// Package openload sends requests at a fixed rate, whether or not answers come,
// and counts: a test can say that nobody noticed what it did meanwhile.
package openload

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"muster/internal/proctest"
)

// A Load is a stream of requests. Each has a connection of its own, so that a
// client's silent second try on a kept one hides nothing.
type Load struct {
	client *http.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	answers  map[string]int // by body
	failures []string
}

// Start sends perSecond GETs of url each second until Stop.
func Start(tb testing.TB, url string, perSecond int) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: proctest.Patience},
		cancel: cancel, answers: make(map[string]int),
	}
	l.wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.wg.Go(func() { l.request(url) })
			case <-ctx.Done():
				return
			}
		}
	})
	tb.Cleanup(func() { l.Stop() })
	return l
}

func (l *Load) request(url string) {
	start := time.Now()
	body, err := l.get(url)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures = append(l.failures, fmt.Sprintf("%v after %v", err, time.Since(start).Round(time.Millisecond)))
		return
	}
	l.answers[body]++
}

func (l *Load) get(url string) (string, error) {
	resp, err := l.client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.80q", resp.Status, body)
	}
	return string(body), err
}

// Stop waits for the last answer and returns how often each body came, and why
// requests failed.
func (l *Load) Stop() (answers map[string]int, failures []string) {
	l.cancel()
	l.wg.Wait()
	return l.answers, l.failures
}
