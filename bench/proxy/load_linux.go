package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A loop is the load generator and the origins: one thread, one epoll, no memory
// of its own for a message that comes in one piece.
type loop struct {
	epoll  int
	conns  []*conn // by descriptor
	buf    []byte
	events []unix.EpollEvent

	// The run that is on.
	target   unix.SockaddrInet4
	request  []byte
	body     int
	fresh    bool
	closed   bool        // each client asks again when it has its answer
	sources  int         // connections opened, for their source addresses
	idle     []*conn     // clients without a request
	due      []time.Time // arrivals that no client was free for
	took     []time.Duration
	done     int
	err      error
	response []byte
}

type kind uint8

const (
	client kind = iota
	origin
	listener
)

// A conn is a socket in the loop.
type conn struct {
	fd         int
	kind       kind
	connecting bool
	head       []byte // of a message that came in pieces
	left       int    // of the body that is being read
	inBody     bool
	out        []byte // not yet written
	since      time.Time
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &loop{epoll: fd, buf: make([]byte, 256<<10), events: make([]unix.EpollEvent, 512)}, nil
}

// listen adds an origin and returns its port.
func (l *loop) listen() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return name.(*unix.SockaddrInet4).Port, l.add(&conn{fd: fd, kind: listener}, unix.EPOLLIN)
}

func (l *loop) add(c *conn, events uint32) error {
	for len(l.conns) <= c.fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)})
}

func (l *loop) wants(c *conn, events uint32) {
	l.fail(unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)}))
}

func (l *loop) close(c *conn) {
	l.conns[c.fd] = nil
	unix.Close(c.fd)
}

func (l *loop) fail(err error) {
	if err != nil && l.err == nil {
		l.err = err
	}
}

// connect opens a client. Source addresses take turns, so that no run ends the
// ports of one.
func (l *loop) connect() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.fail(err)
		return
	}
	l.sources++
	l.fail(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1))
	l.fail(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + l.sources%100)}}))
	l.fail(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if err := unix.Connect(fd, &l.target); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		l.fail(fmt.Errorf("connect: %w", err))
		return
	}
	l.fail(l.add(&conn{fd: fd, kind: client, connecting: true}, unix.EPOLLOUT))
}

// step waits for at most milliseconds and does what there is to do.
func (l *loop) step(milliseconds int) {
	n, err := unix.EpollWait(l.epoll, l.events, milliseconds)
	if err != nil && !errors.Is(err, unix.EINTR) {
		l.fail(err)
	}
	for _, e := range l.events[:max(n, 0)] {
		c := l.conns[e.Fd]
		switch {
		case c == nil: // closed by an event before
		case c.kind == listener:
			l.accept(c)
		case e.Events&unix.EPOLLOUT != 0:
			l.writable(c)
		default:
			l.readable(c)
		}
	}
}

func (l *loop) accept(from *conn) {
	for {
		fd, _, err := unix.Accept4(from.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				l.fail(err)
			}
			return
		}
		l.fail(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		l.fail(l.add(&conn{fd: fd, kind: origin}, unix.EPOLLIN))
	}
}

func (l *loop) writable(c *conn) {
	if c.connecting {
		if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			l.fail(fmt.Errorf("connect: %w", errors.Join(err, unix.Errno(code))))
			return
		}
		c.connecting = false
		l.wants(c, unix.EPOLLIN)
		l.free(c)
		return
	}
	rest := c.out
	c.out = nil
	l.wants(c, unix.EPOLLIN)
	l.write(c, rest)
}

// write sends all of b, now or when there is room.
func (l *loop) write(c *conn, b []byte) {
	n, err := unix.Write(c.fd, b)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		if c.kind == client {
			l.fail(fmt.Errorf("write to the proxy: %w", err))
		}
		l.close(c)
		return
	}
	if n = max(n, 0); n < len(b) {
		c.out = b[n:]
		l.wants(c, unix.EPOLLOUT)
	}
}

// free is a client that may be given a request.
func (l *loop) free(c *conn) {
	switch {
	case l.closed:
		l.ask(c, time.Time{})
	case len(l.due) > 0:
		at := l.due[0]
		l.due = l.due[1:]
		l.ask(c, at)
	default:
		l.idle = append(l.idle, c)
	}
}

// ask sends a request that was due at that time.
func (l *loop) ask(c *conn, due time.Time) {
	c.since = due
	l.write(c, l.request)
}

func (l *loop) readable(c *conn) {
	n, err := unix.Read(c.fd, l.buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case err != nil || n == 0:
		if c.kind == client && !slices.Contains(l.idle, c) {
			l.fail(fmt.Errorf("the proxy closed before its answer had come: %w", errors.Join(err, errEnd)))
		}
		l.idle = slices.DeleteFunc(l.idle, func(i *conn) bool { return i == c })
		l.close(c)
		return
	}
	b := l.buf[:n]
	if !c.inBody {
		if len(c.head) > 0 {
			b = append(c.head, b...)
			c.head = nil
		}
		i := bytes.Index(b, headEnd)
		if i < 0 {
			c.head = append([]byte(nil), b...)
			return
		}
		if c.left, err = l.length(c, b[:i+2]); err != nil {
			l.fail(err)
			return
		}
		b, c.inBody = b[i+len(headEnd):], true
	}
	if c.left -= len(b); c.left > 0 {
		return
	}
	if c.left < 0 {
		l.fail(fmt.Errorf("%d bytes too many after a message", -c.left))
		return
	}
	c.inBody = false
	if c.kind == origin {
		l.write(c, l.response)
		return
	}
	l.answered(c)
}

// answered counts an answer and goes on.
func (l *loop) answered(c *conn) {
	l.done++
	if !c.since.IsZero() {
		l.took = append(l.took, time.Since(c.since))
	}
	if !l.fresh {
		l.free(c)
		return
	}
	l.close(c)
	if l.closed {
		l.connect()
	}
}

var (
	headEnd   = []byte("\r\n\r\n")
	statusOK  = []byte("HTTP/1.1 200 ")
	lengthKey = []byte("\r\ncontent-length:")
	errEnd    = errors.New("end of file")
)

// length is that of the body behind a head, and checks that the head is the right
// one.
func (l *loop) length(c *conn, head []byte) (int, error) {
	if c.kind == client && !bytes.HasPrefix(head, statusOK) {
		return 0, fmt.Errorf("the proxy answered %q", head[:bytes.IndexByte(head, '\r')])
	}
	n := 0
	if at := indexFold(head, lengthKey); at >= 0 {
		value := head[at+len(lengthKey):]
		value = bytes.TrimSpace(value[:bytes.IndexByte(value, '\r')])
		var err error
		if n, err = strconv.Atoi(string(value)); err != nil {
			return 0, err
		}
	}
	if c.kind == client && n != l.body {
		return 0, fmt.Errorf("the proxy answered %d bytes, want %d", n, l.body)
	}
	return n, nil
}

// indexFold is bytes.Index for a key in lower case, whatever the case in b.
func indexFold(b, key []byte) int {
	for at := 0; ; at++ {
		i := bytes.IndexByte(b[at:], key[0])
		if i < 0 || len(b)-at-i < len(key) {
			return -1
		}
		at += i
		if bytes.EqualFold(b[at:at+len(key)], key) {
			return at
		}
	}
}

// begin makes ready for a workload, to the proxy at port.
func (l *loop) begin(w workload, port int) {
	l.target = unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}
	l.request, l.response, l.body, l.fresh = w.request(), w.response(), w.body, w.fresh
	l.closed, l.idle, l.due, l.took, l.done, l.err = false, l.idle[:0], l.due[:0], l.took[:0], 0, nil
}

// end closes the clients.
func (l *loop) end() {
	for _, c := range l.conns {
		if c != nil && c.kind == client {
			l.close(c)
		}
	}
	l.closed = false
	for range 20 { // the proxy closes its side of what is left
		l.step(1)
	}
}

// saturate keeps every client asking for warm and then for window, and counts the
// latter.
func (l *loop) saturate(w workload, cpu func() time.Duration, warm, window time.Duration) (m measure, err error) {
	l.closed = true
	for range w.connections {
		l.connect()
	}
	l.until(time.Now().Add(warm), func() { l.step(1) })
	start, before, done := time.Now(), cpu(), l.done
	l.until(start.Add(window), func() { l.step(1) })
	m = measure{Done: l.done - done, CPU: cpu() - before, Wall: time.Since(start)}
	return m, l.err
}

const (
	fewest   = 20 // answers that a figure is made of
	patience = time.Minute
)

// until runs the loop to that time, and on until there are answers enough.
func (l *loop) until(end time.Time, step func()) {
	done := l.done + fewest
	for l.err == nil {
		for range 16 { // the clock is not free
			step()
		}
		late := time.Since(end)
		if late > 0 && l.done >= done {
			return
		}
		if late > patience {
			l.fail(fmt.Errorf("the proxy gave only %d answers", l.done+fewest-done))
		}
	}
}

// poisson lets requests arrive at the workload's rate for warm and for window.
func (l *loop) poisson(w workload, cpu func() time.Duration, warm, window time.Duration) (m measure, err error) {
	if !w.fresh {
		for range w.connections {
			l.connect()
		}
		for l.err == nil && len(l.idle) < w.connections {
			l.step(1)
		}
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same arrivals for everybody
	next := time.Now()
	step := func() {
		now := time.Now()
		for ; !next.After(now); next = next.Add(time.Duration(random.ExpFloat64() / w.rate * float64(time.Second))) {
			l.arrival(next, &m)
		}
		l.step(0) // a wait would come back late
	}
	l.until(time.Now().Add(warm), step)
	l.took, m.Waited = l.took[:0], 0
	start, before, done := time.Now(), cpu(), l.done
	l.until(start.Add(window), step)
	m.CPU, m.Wall, m.Done = cpu()-before, time.Since(start), l.done-done
	m.Took = slices.Sorted(slices.Values(l.took))
	return m, l.err
}

// maxDue bounds what waits for a free connection.
const maxDue = 100_000

func (l *loop) arrival(at time.Time, m *measure) {
	switch {
	case l.fresh:
		l.due = append(l.due, at)
		l.connect()
	case len(l.idle) > 0: // each in its turn
		c := l.idle[0]
		l.idle = l.idle[1:]
		l.ask(c, at)
	case len(l.due) == maxDue:
		l.fail(errors.New("the proxy can't keep up with the rate"))
	default:
		m.Waited++
		l.due = append(l.due, at)
	}
}

// rest opens the workload's connections, asks once on each and leaves them idle.
func (l *loop) rest(w workload) error {
	const together = 200
	for opened := 0; opened < w.connections && l.err == nil; {
		for range min(together, w.connections-opened) {
			now := time.Now()
			l.due = append(l.due, now)
			l.connect()
			opened++
		}
		for l.err == nil && len(l.idle) < opened {
			l.step(1)
		}
	}
	return l.err
}
