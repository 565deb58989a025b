package drivertest

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Verdict is what another proxy made of a case.
type Verdict struct {
	Name string
	Err  error // nil: it does as the case wants
}

// Compare plays the cases to another proxy, which start runs in front of an
// origin, each as it is written and in no other mode. Those with settings are
// left out, as nobody can tell another proxy of them. An answer that the proxy
// makes needs no more than the status, or another one of 400 to 499 where such
// a one is wanted; and messages may have fields that the case does not name,
// but for those that it rules out. At most lanes run at a time.
func Compare(t testing.TB, lanes int, start func(t testing.TB, origin string) (addr string, stop func(), err error)) []Verdict {
	var (
		mu   sync.Mutex
		all  []Verdict
		wg   sync.WaitGroup
		free = make(chan struct{}, lanes)
	)
	for name, scripts := range loadAll(t) {
		if len(scripts[0].settings) > 0 {
			continue
		}
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			v := Verdict{Name: name}
			for i := range scripts {
				if v.Err = comparing(t, start, &scripts[i]); v.Err != nil {
					break
				}
			}
			mu.Lock()
			all = append(all, v)
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b Verdict) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func comparing(t testing.TB, start func(testing.TB, string) (string, func(), error), s *script) error {
	from := func(t testing.TB, config string) (string, func(), error) {
		_, origin, _ := strings.Cut(config, `endpoints = ["`)
		origin, _, _ = strings.Cut(origin, `"`)
		return start(t, origin)
	}
	if err := play(t, from, s, "plain", listedFor, true); err != nil {
		return fmt.Errorf("%w%s", err, s.variant)
	}
	return nil
}

// peerAnswer goes on where an answer of another proxy has the right status.
func (w *wire) peerAnswer(got head, close, toHead bool) error {
	if toHead {
		w.body = none
	}
	if w.body == length {
		if _, err := w.data(int(w.left)); err != nil {
			return err
		}
	}
	if !close {
		return nil
	}
	// Whatever else comes is the rest of the page that it shows.
	err := w.rig.wait("the end of "+w.name, func() bool { return w.ended != nil })
	w.body, w.in = finished, nil
	if err == nil && w.ended != io.EOF && got.fields["connection"] == nil {
		err = fmt.Errorf("ended with %w, want FIN", w.ended)
	}
	return err
}
