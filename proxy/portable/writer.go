// This file runs once per request.

package portable

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"
)

// writeTimeout is how long a client may take no byte of its answer.
const writeTimeout = 30 * time.Second

// discardTimeout is how long the rest of a request is read after its answer
// was complete, so that the answer is not lost to a reset.
const discardTimeout = time.Second

// A writer is the way to the client. It counts what was written, lets a client
// that reads nothing not wait for ever, and keeps net/http from adding to the
// answer.
type writer struct {
	http.ResponseWriter
	rc      *http.ResponseController
	x       *exchange
	proto10 bool // HTTP/1.0 has no interim answers

	status int
	bytes  int64
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(code int) {
	if code < 200 && code != http.StatusSwitchingProtocols {
		w.interim(code)
		return
	}
	h := w.Header()
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // not to be guessed
	}
	if w.status == 0 {
		w.status = code
		w.x.record.FirstByte = time.Since(w.x.record.Time)
	}
	w.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.ResponseWriter.WriteHeader(code)
}

// interim passes a 1xx on to clients that can read it.
func (w *writer) interim(code int) {
	w.x.try.interim()
	if w.proto10 || code == http.StatusContinue {
		return // net/http writes the 100 by itself, when the body is asked for
	}
	removeHopByHop(w.Header())
	w.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(p []byte) (int, error) {
	w.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// FlushError is for http.ResponseController.
func (w *writer) FlushError() error { return w.rc.Flush() }

// Hijack hands out the connection for a tunnel. What the client has sent behind
// its request is read from it first; ReverseProxy would not look for it.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := w.rc.Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &hijacked{c, rw.Reader}, rw, nil
}

type hijacked struct {
	net.Conn
	early *bufio.Reader
}

func (h *hijacked) Read(p []byte) (int, error) {
	if n := h.early.Buffered(); n > 0 {
		return h.early.Read(p[:min(n, len(p))])
	}
	return h.Conn.Read(p)
}

// CloseWrite ends one direction of a tunnel.
func (h *hijacked) CloseWrite() error { return closeWrite(h.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// done is called when nothing more is written. What is left of the request's
// body is discarded by net/http, but not waited for.
func (w *writer) done(b *body) {
	if b != nil && b.end() && !w.x.tunnel {
		w.rc.SetReadDeadline(time.Now().Add(discardTimeout))
	}
}
