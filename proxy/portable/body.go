// This file runs once per request.

package portable

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"muster/proxy/balance"
)

// A body is the body of a request: read from the client once, and handed out
// anew to each attempt as long as what was read fits into [balance.KeptBody].
type body struct {
	src     io.Reader
	rc      *http.ResponseController
	timeout time.Duration // between two reads

	trailer   http.Header // of the request; filled when the body has ended
	announced []string    // the fields of trailer that are passed on

	mu   sync.Mutex // held while the client is waited for; guards src and kept
	kept []byte     // everything that was read, unless lost

	// Written under mu, read by anyone.
	read  atomic.Int64
	lost  atomic.Bool           // more was read, or will be, than is kept
	err   atomic.Pointer[error] // how reading ended
	ended atomic.Bool           // nothing more may be read
	cut   atomic.Bool           // a read was broken off; the client did nothing wrong
}

var errBodyLost = errors.New("the body can't be sent again")

func newBody(r *http.Request, rc *http.ResponseController) *body {
	b := &body{src: r.Body, rc: rc, timeout: bodyTimeout(r), trailer: r.Trailer}
	b.lost.Store(r.ContentLength > balance.KeptBody)
	for name := range b.trailer {
		if !balance.Dropped(name) {
			b.announced = append(b.announced, name)
		}
	}
	b.filterTrailer()
	return b
}

// filterTrailer leaves the fields that are passed on.
func (b *body) filterTrailer() {
	maps.DeleteFunc(b.trailer, func(name string, _ []string) bool { return !slices.Contains(b.announced, name) })
}

// whole reports that an attempt could be given the body from its begin.
func (b *body) whole() bool {
	return b == nil || !b.cut.Load() && (b.read.Load() == 0 || !b.lost.Load())
}

// end stops reading. It reports whether the client has more to send.
func (b *body) end() (more bool) {
	b.ended.Store(true)
	err := b.err.Load()
	return err == nil || *err != io.EOF
}

// problem is why reading from the client failed, or OK.
func (b *body) problem() balance.Kind {
	if b == nil {
		return balance.OK
	}
	err := b.err.Load()
	switch {
	case err == nil || *err == io.EOF || b.cut.Load():
		return balance.OK
	case errors.Is(*err, os.ErrDeadlineExceeded):
		return balance.BodyTimeout
	case errors.Is(*err, io.ErrUnexpectedEOF) || isReset(*err):
		return balance.ClientGone
	}
	return balance.BadRequest
}

// readAt reads what follows the first at bytes of the body.
func (b *body) readAt(p []byte, at int64) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at < b.read.Load() {
		if b.lost.Load() {
			return 0, errBodyLost
		}
		return copy(p, b.kept[at:]), nil
	}
	if err := b.err.Load(); err != nil {
		return 0, *err
	}
	b.rc.SetReadDeadline(time.Now().Add(b.timeout))
	if b.ended.Load() || b.cut.Load() {
		return 0, errBodyLost
	}
	n, err := b.src.Read(p)
	if err == io.EOF {
		b.filterTrailer()
		b.rc.SetReadDeadline(time.Time{}) // net/http now waits for the client to go away
	}
	if err != nil {
		b.err.Store(&err)
	}
	if b.lost.Load() || b.read.Load()+int64(n) > balance.KeptBody {
		b.lost.Store(true)
		b.kept = nil
	} else {
		b.kept = append(b.kept, p[:n]...)
	}
	b.read.Add(int64(n))
	return n, err
}

// A sending is the body as one attempt sends it.
type sending struct {
	*body
	at     int64
	closed atomic.Bool
}

func (s *sending) Read(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := s.readAt(p, s.at)
	s.at += int64(n)
	return n, err
}

func (s *sending) Close() error {
	s.closed.Store(true)
	return nil
}

// breakOff ends the attempt's reading, now that nobody wants what it reads: the
// transport returns only when it has ended.
func (s *sending) breakOff() {
	if s.closed.CompareAndSwap(false, true) {
		s.cut.Store(true)
		s.rc.SetReadDeadline(time.Now())
	}
}
