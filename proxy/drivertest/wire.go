package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A wire is one connection of a case, at the client or at the origin. Two
// goroutines read from it and write to it; the script looks at what came.
type wire struct {
	name string
	conn *net.TCPConn
	rig  *rig
	wg   sync.WaitGroup
	out  chan func()

	// Guarded by rig.mu.
	in     []byte // came, and the script has not looked at it
	ended  error  // io.EOF, or what else ended it
	paused bool
	queued int // writes that are not done

	// The script's own: where in a message it is.
	body    body
	left    int64 // of a body with a length, or of a chunk
	discard bool
	request string // the last X-Request-Id
}

// body is how the message that is being read is framed.
type body int

const (
	none     body = iota // between messages
	length               // Content-Length
	chunk                // inside a chunk
	size                 // before a chunk's size
	until                // to the end of the connection
	finished             // the connection is over
)

func (r *rig) wire(name string, c net.Conn) *wire {
	w := &wire{name: name, conn: c.(*net.TCPConn), rig: r, out: make(chan func(), 100)}
	w.wg.Go(w.reading)
	w.wg.Go(func() {
		for f := range w.out {
			f()
		}
	})
	return w
}

func (w *wire) reading() {
	buf := make([]byte, 64<<10)
	for {
		w.rig.waitNoMatter(func() bool {
			if !w.paused {
				w.conn.SetReadDeadline(time.Time{})
			}
			return !w.paused
		})
		n, err := w.conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		w.rig.edit(func() {
			w.in = append(w.in, buf[:n]...)
			w.ended = err
		})
		if err != nil {
			return
		}
	}
}

// send writes text, split as the mode wants it.
func (w *wire) send(text string) {
	w.do(func() {
		if w.rig.mode == "bytes" {
			n := min(len(text), 2048)
			for i := range n {
				if _, err := io.WriteString(w.conn, text[i:i+1]); err != nil {
					return
				}
			}
			text = text[n:]
		}
		io.WriteString(w.conn, text) // where the other side is gone, reading will show
	})
}

// do has the writer do f, behind what it was told before.
func (w *wire) do(f func()) {
	w.rig.edit(func() { w.queued++ })
	w.out <- func() {
		f()
		w.rig.edit(func() { w.queued-- })
	}
}

// finish ends the connection by f, once everything is written.
func (w *wire) finish(f func()) error {
	w.do(f)
	return w.rig.wait("the writes before", func() bool { return w.queued == 0 })
}

// reset ends the connection with a reset.
func (w *wire) reset() {
	w.conn.SetLinger(0)
	w.conn.Close()
}

// close ends both goroutines.
func (w *wire) close() {
	w.rig.edit(func() { w.paused = false })
	w.conn.Close()
	close(w.out)
	w.wg.Wait()
}

// take waits for n bytes and takes them.
func (w *wire) take(n int) (string, error) {
	var text string
	err := w.rig.wait(fmt.Sprintf("%d bytes at %s", n, w.name), func() bool {
		if len(w.in) >= n {
			text = string(w.in[:n])
			w.in = w.in[n:]
			return true
		}
		return w.ended != nil
	})
	if err == nil && len(text) < n {
		err = fmt.Errorf("%s ended (%v), want %d more bytes", w.name, w.ended, n-len(w.in))
	}
	return text, err
}

// takeTo waits for a mark, and takes what comes to its end.
func (w *wire) takeTo(mark, what string) (string, error) {
	var text string
	err := w.rig.wait(what+" at "+w.name, func() bool {
		if i := bytes.Index(w.in, []byte(mark)); i >= 0 {
			i += len(mark)
			text = string(w.in[:i])
			w.in = w.in[i:]
			return true
		}
		return w.ended != nil
	})
	if err == nil && text == "" {
		err = fmt.Errorf("%s ended (%v), want %s", w.name, w.ended, what)
	}
	return text, err
}

// head waits for a message head, and learns how its body is framed.
func (w *wire) head() (head, error) {
	text, err := w.takeTo("\r\n\r\n", "a head")
	if err != nil {
		return head{}, err
	}
	request := w.name[0] == 'O'
	h, err := parseHead(text, request)
	if err != nil {
		return h, err
	}
	w.body = none
	cl, te := h.fields["content-length"], h.fields["transfer-encoding"]
	switch code := h.status(); {
	case !request && code == 101:
		w.body = until
	case !request && (code < 200 || code == 204 || code == 304):
	case te != nil:
		if te[0] != "chunked" {
			return h, fmt.Errorf("Transfer-Encoding %q, want chunked", te[0])
		}
		w.body = size
	case cl != nil:
		w.left, err = strconv.ParseInt(cl[0], 10, 64)
		if err != nil || strconv.FormatInt(w.left, 10) != cl[0] {
			return h, fmt.Errorf("Content-Length %q is not canonical", cl[0])
		}
		if w.left > 0 {
			w.body = length
		}
	case !request:
		w.body = until
	}
	return h, nil
}

var sizeLine = regexp.MustCompile(`^[0-9A-Fa-f]{1,16}\r\n$`)

// data waits for n bytes of a body's data.
func (w *wire) data(n int) (string, error) {
	var all strings.Builder
	for all.Len() < n {
		part := n - all.Len()
		switch w.body {
		case none, finished:
			return all.String(), fmt.Errorf("%s: the message ended, want %d more bytes of its body", w.name, part)
		case size:
			if err := w.chunkSize(); err != nil {
				return all.String(), err
			}
			if w.left == 0 {
				return all.String(), fmt.Errorf("%s: last chunk, want %d more bytes", w.name, part)
			}
			continue
		case length, chunk:
			part = int(min(int64(part), w.left))
		}
		text, err := w.take(part)
		all.WriteString(text)
		if err != nil {
			return all.String(), err
		}
		if w.body == until {
			continue
		}
		if w.left -= int64(part); w.left == 0 {
			if err := w.partDone(); err != nil {
				return all.String(), err
			}
		}
	}
	return all.String(), nil
}

// chunkSize reads the line before a chunk.
func (w *wire) chunkSize() error {
	line, err := w.takeTo("\r\n", "a chunk size")
	if err != nil {
		return err
	}
	if !sizeLine.MatchString(line) {
		return fmt.Errorf("%s: chunk size line %q is not canonical", w.name, line)
	}
	w.left, err = strconv.ParseInt(line[:len(line)-2], 16, 64)
	w.body = chunk
	return err
}

// partDone comes behind the last byte of a body with a length, or of a chunk.
func (w *wire) partDone() error {
	if w.body == length {
		w.body = none
		return nil
	}
	w.body = size
	text, err := w.take(2)
	if err == nil && text != "\r\n" {
		err = fmt.Errorf("%s: %q behind a chunk, want CRLF", w.name, text)
	}
	return err
}

// end reads the last chunk and returns the trailers.
func (w *wire) end() (head, error) {
	if w.body == none {
		return head{}, nil
	}
	if w.body != size {
		return head{}, fmt.Errorf("%s: %d bytes of the body are to come, want its end", w.name, w.left)
	}
	if err := w.chunkSize(); err != nil {
		return head{}, err
	}
	if w.left != 0 {
		return head{}, fmt.Errorf("%s: another chunk of %d bytes, want the last", w.name, w.left)
	}
	w.body = none
	text := "HTTP/1.1 200 trailers\r\n"
	for {
		line, err := w.takeTo("\r\n", "a trailer")
		if err != nil {
			return head{}, err
		}
		text += line
		if line == "\r\n" {
			return parseHead(text, false)
		}
	}
}

// over waits for the end of the connection, with nothing before.
func (w *wire) over() error {
	err := w.rig.wait("the end of "+w.name, func() bool { return w.ended != nil || len(w.in) > 0 && !w.discard })
	if err != nil {
		return err
	}
	w.rig.mu.Lock()
	defer w.rig.mu.Unlock()
	if len(w.in) > 0 && !w.discard {
		return fmt.Errorf("%s got %q, want the end", w.name, short(w.in))
	}
	return nil
}

// unfinished waits for the end of the connection, which must come before that of
// the message. More of the body may come.
func (w *wire) unfinished() error {
	if err := w.rig.wait("the end of "+w.name, func() bool { return w.ended != nil }); err != nil {
		return err
	}
	for {
		if w.body == none {
			return fmt.Errorf("%s: the message is complete, want it cut off", w.name)
		}
		// What there is of this part, or else the byte that begins the next.
		if _, err := w.data(int(max(1, min(w.left, int64(len(w.in)))))); err == nil {
			continue
		}
		if w.body == chunk && w.left == 0 && (bytes.HasPrefix(w.in, []byte("\r\n")) || bytes.Contains(w.in, []byte("\r\n\r\n"))) {
			return fmt.Errorf("%s: the message ends with %q, want it cut off", w.name, short(w.in))
		}
		w.body, w.in = finished, nil
		return nil
	}
}

// clean reports whether the connection ended with FIN.
func (w *wire) clean() bool { return errors.Is(w.ended, io.EOF) }

// short is the beginning of what came.
func short(b []byte) string {
	if len(b) > 300 {
		return string(b[:300]) + "…"
	}
	return string(b)
}
