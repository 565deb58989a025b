package drivertest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A rig is what one run of a case uses: an origin, the clients, and between them
// a proxy.
type rig struct {
	mode     string
	patience time.Duration
	peer     bool   // the proxy is not ours, see Compare
	addr     string // of the proxy

	l  net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex    // guards what follows, and what the wires say
	changed chan struct{} // closed when something of that changes
	origins []*wire       // in the order they were opened
	clients map[string]*wire
	known   int  // connections of the origin that the script named
	strict  bool // the script has no more to do with the origin
}

func newRig(mode string, patience time.Duration) (*rig, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &rig{mode: mode, patience: patience, l: l, changed: make(chan struct{}), clients: make(map[string]*wire)}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.edit(func() { r.origins = append(r.origins, nil) })
			n := len(r.origins)
			w := r.wire(fmt.Sprintf("O%d", n), c)
			r.edit(func() { r.origins[n-1] = w })
		}
	})
	return r, nil
}

// edit changes what wait looks at.
func (r *rig) edit(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// wait waits until what is true. It gives up early where the origin got
// something that the script does not know of.
func (r *rig) wait(what string, is func() bool) error {
	limit := time.NewTimer(r.patience)
	defer limit.Stop()
	for {
		var stray error
		r.mu.Lock()
		ok, changed := is(), r.changed
		if !ok && r.strict {
			stray = r.stray()
		}
		r.mu.Unlock()
		if ok {
			return nil
		}
		if stray != nil {
			return fmt.Errorf("waiting for %s: %w", what, stray)
		}
		select {
		case <-changed:
		case <-limit.C:
			return fmt.Errorf("no %s after %v; %s", what, r.patience, r.state())
		}
	}
}

// waitNoMatter waits until what is true, however long.
func (r *rig) waitNoMatter(is func() bool) {
	for {
		r.mu.Lock()
		ok, changed := is(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		<-changed
	}
}

// stray is what the origin got and the script does not name.
func (r *rig) stray() error {
	for i, w := range r.origins {
		if w == nil || w.discard {
			continue
		}
		if len(w.in) > 0 {
			return fmt.Errorf("%s got %q, which the case does not want", w.name, short(w.in))
		}
		if i >= r.known {
			return fmt.Errorf("connection %d of the origin was opened, want %d", i+1, r.known)
		}
	}
	return nil
}

// state says what came and was not asked for.
func (r *rig) state() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := "unread:"
	for _, w := range r.all() {
		text += fmt.Sprintf(" %s %q", w.name, short(w.in))
		if w.ended != nil {
			text += " and the end"
		}
	}
	return text
}

func (r *rig) all() (ws []*wire) {
	for _, w := range r.clients {
		ws = append(ws, w)
	}
	for _, w := range r.origins {
		if w != nil {
			ws = append(ws, w)
		}
	}
	return ws
}

// named returns the connection of that name: a client, which is opened now if
// it was not before, or one of the origin, which is waited for.
func (r *rig) named(name string) (*wire, error) {
	n := 1
	if len(name) > 1 {
		if _, err := fmt.Sscan(name[1:], &n); err != nil || n < 1 {
			return nil, fmt.Errorf("%q: no such connection", name)
		}
	}
	if name[0] == 'C' {
		if w := r.clients[name]; w != nil {
			return w, nil
		}
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			return nil, err
		}
		w := r.wire(name, c)
		r.edit(func() { r.clients[name] = w })
		return w, nil
	}
	r.mu.Lock()
	r.known = max(r.known, n)
	r.mu.Unlock()
	var w *wire
	err := r.wait(fmt.Sprintf("connection %d to the origin", n), func() bool {
		if len(r.origins) >= n {
			w = r.origins[n-1]
		}
		return w != nil
	})
	return w, err
}

// leave closes the clients, and says to the proxy that nothing more comes from
// the origin: it has nothing to do any more.
func (r *rig) leave() {
	for _, w := range r.clients {
		w.close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.origins {
		if w != nil {
			w.conn.CloseWrite()
		}
	}
}

// stop closes the rest.
func (r *rig) stop() {
	r.l.Close()
	r.wg.Wait()
	for _, w := range r.origins {
		w.close()
	}
}

// surplus is what came and no step asked for.
func (r *rig) surplus() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := []error{r.stray()}
	for _, w := range r.clients {
		if len(w.in) > 0 && !w.discard {
			errs = append(errs, fmt.Errorf("at the end %s got %q, which the case does not want", w.name, short(w.in)))
		}
	}
	return errors.Join(errs...)
}
