// This file runs once per request.

package portable

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A socket is a connection, read by one goroutine at a time and written by one.
// Where it is a plain one it makes the system calls itself, inside of what the
// net package offers for that: so it needs memory only when there is something
// to read, and tells how much was written.
type socket struct {
	net.Conn
	raw syscall.RawConn // nil: TLS
	low syscall.RawConn // below TLS, else raw

	// The reader's.
	armed  time.Time // the deadline that is set; zero: none
	seen   uint32    // wakes that the reader knows of
	into   *buffer
	size   int
	n      int
	errno  syscall.Errno
	reader func(fd uintptr) bool

	// The writer's.
	from    []byte
	silence time.Duration
	stalled bool
	wrote   int
	werrno  syscall.Errno
	writer  func(fd uintptr) bool

	// Whoever has the socket alone.
	looker func(fd uintptr)
	asks   *buffer
	spend  bool
	idle   bool // it lay in a pool, and nobody has looked at it since
	quiet  bool // nothing has come
	unread bool // bytes have
	peeked [1]byte

	wakes atomic.Uint32
}

func newSocket(c net.Conn) *socket {
	s := &socket{Conn: c}
	s.raw = rawOf(c)
	s.low = s.raw
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		s.low = rawOf(t.NetConn())
	}
	s.reader, s.writer, s.looker = s.tryAsk, s.tryWrite, s.look
	return s
}

func rawOf(c net.Conn) syscall.RawConn {
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// errWoken is why a read ended that somebody else had end.
var errWoken = errors.New("woken")

// wake ends the read that waits, or else the next one, with errWoken. Anybody
// may call it.
func (s *socket) wake() {
	s.wakes.Add(1)
	s.SetReadDeadline(time.Unix(1, 0))
}

// nudge has the read that waits end with errWoken at that time, if nothing came.
// It is wake for news that can wait.
func (s *socket) nudge(at time.Time) {
	s.wakes.Add(1)
	s.SetReadDeadline(at)
}

// read reads once, behind what b holds; if that is nothing, into a block of that
// size which it takes when there is something to read. It ends with
// os.ErrDeadlineExceeded at limit, if limit is not zero. now is about the time.
//
// Setting a deadline costs more than looking at one. So one that is early is left
// alone, and when it has come, the clock decides.
func (s *socket) read(b *buffer, size int, now, limit time.Time) (int, error) {
	for {
		if w := s.wakes.Load(); w != s.seen {
			s.seen, s.armed = w, time.Unix(1, 0)
			return 0, errWoken
		}
		s.arm(now, limit)
		if s.wakes.Load() != s.seen {
			continue // its deadline may have been overwritten
		}
		n, err := s.readOnce(b, size)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		now = time.Now()
		if s.wakes.Load() == s.seen && !limit.IsZero() && !now.Before(limit) {
			s.armed = time.Unix(1, 0)
			return 0, os.ErrDeadlineExceeded
		}
		s.armed = time.Unix(1, 0)
	}
}

func (s *socket) arm(now, limit time.Time) {
	switch {
	case limit.IsZero():
		if s.armed.IsZero() {
			return
		}
	case !s.armed.IsZero() && !s.armed.After(limit) && s.armed.Sub(now) >= limit.Sub(now)/2:
		return
	}
	s.SetReadDeadline(limit)
	s.armed = limit
}

func (s *socket) readOnce(b *buffer, size int) (int, error) {
	if s.raw == nil {
		had := b.block != nil
		b.hold(size)
		n, err := s.Conn.Read(b.free())
		b.w += n
		if n > 0 {
			err = nil
		} else if !had {
			b.release()
		}
		return n, err
	}
	s.into, s.size, s.n, s.errno = b, size, 0, 0
	err := s.raw.Read(s.reader)
	switch {
	case err != nil:
		return 0, err
	case s.errno != 0:
		return 0, s.errno
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// tryRead reports whether it is done; not where there is nothing to read.
func (s *socket) tryRead(fd uintptr) bool {
	b := s.into
	had := b.block != nil
	b.hold(s.size)
	s.n, s.errno = sysRead(fd, b.free())
	if s.errno == 0 {
		b.w += s.n
	}
	if !had && b.len() == 0 {
		b.release()
	}
	return s.errno != syscall.EAGAIN
}

// readNow reads what is there already, whatever the deadline.
func (s *socket) readNow(b *buffer, size int) int {
	if s.raw == nil {
		return 0
	}
	s.into, s.size, s.n, s.errno = b, size, 0, 0
	if s.raw.Control(func(fd uintptr) { s.tryRead(fd) }) != nil || s.errno != 0 {
		return 0
	}
	return s.n
}

// write writes all of p, and says how much of it went out. It gives up when the
// other side takes nothing for silence.
func (s *socket) write(p []byte, silence time.Duration) (int, error) {
	if s.idle {
		if err := s.alive(); err != nil {
			return 0, err
		}
		s.idle = false
	}
	if s.raw == nil {
		s.SetWriteDeadline(time.Now().Add(silence))
		return s.Conn.Write(p)
	}
	s.from, s.silence, s.wrote, s.werrno = p, silence, 0, 0
	err := s.raw.Write(s.writer)
	s.from = nil
	if s.stalled {
		s.SetWriteDeadline(time.Time{})
		s.stalled = false
	}
	if err == nil && s.werrno != 0 {
		err = s.werrno
	}
	return s.wrote, err
}

func (s *socket) tryWrite(fd uintptr) bool {
	for s.wrote < len(s.from) {
		n, errno := sysWrite(fd, s.from[s.wrote:])
		if errno == syscall.EAGAIN {
			s.stalled = true
			s.SetWriteDeadline(time.Now().Add(s.silence))
			return false
		}
		if errno != 0 {
			s.werrno = errno
			return true
		}
		s.wrote += n
	}
	return true
}

// errStale is why nothing was written to a connection that lay idle: something
// has come on it meanwhile, or its end.
var errStale = errors.New("stale")

// ask writes what out has, and reads what comes then, as read does: behind what
// in holds, or into a large block. It returns how much was written; the rest is
// for write. Nothing to read before limit, or an end, is for read to tell. Once
// all is written out is given back, if spend says so.
//
// It is one wait of the net package's, in which the first look is not for what
// can't have come yet, but whether an idle socket still is that, and then comes
// the write. What arrives from the begin of that wait on is not missed.
func (s *socket) ask(out *buffer, spend bool, in *buffer, now, limit time.Time) (int, error) {
	if s.raw == nil {
		return 0, nil
	}
	if w := s.wakes.Load(); w != s.seen { // of the exchange before
		s.seen, s.armed = w, time.Unix(1, 0)
	}
	s.arm(now, limit)
	s.asks, s.spend, s.wrote, s.werrno = out, spend, 0, 0
	s.into, s.size = in, largeBlock
	err := s.raw.Read(s.reader)
	s.asks = nil
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.armed = time.Unix(1, 0)
	case err != nil && s.wrote == 0:
		return 0, err
	case s.idle:
		return 0, errStale
	case s.werrno != 0 && s.werrno != syscall.EAGAIN:
		return 0, s.werrno
	}
	return s.wrote, nil
}

// tryAsk is ask's part before the wait, and else tryRead.
func (s *socket) tryAsk(fd uintptr) bool {
	if s.asks == nil {
		return s.tryRead(fd)
	}
	if s.idle {
		if s.look(fd); !s.quiet {
			return true
		}
		s.idle = false
	}
	p := s.asks.bytes()
	if s.wrote, s.werrno = sysWrite(fd, p); s.wrote < len(p) {
		return true
	}
	if s.spend {
		s.asks.release()
	}
	s.asks = nil
	return false
}

// alive is errStale if the other side has sent anything or hung up.
func (s *socket) alive() error {
	s.quiet = false
	if s.low != nil {
		if err := s.low.Control(s.looker); err != nil {
			return err
		}
	}
	if !s.quiet {
		return errStale
	}
	return nil
}

// spent reports that all is read that has come, perhaps the end too.
func (s *socket) spent() bool {
	s.unread = true
	return s.low != nil && s.low.Control(s.looker) == nil && !s.unread
}

func (s *socket) look(fd uintptr) {
	n, errno := sysPeek(fd, s.peeked[:])
	s.quiet, s.unread = errno == syscall.EAGAIN, n > 0
}

// closeWrite ends our direction.
func (s *socket) closeWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// reset ends the connection so that the other side sees that something is
// missing.
func (s *socket) reset() {
	if c, ok := s.Conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
	s.Close()
}
