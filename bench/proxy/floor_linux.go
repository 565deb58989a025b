package main

import (
	"errors"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// floor is what no proxy can go below: bytes from one socket to the other, by one
// thread with epoll, and not one of them looked at. A client's connection has one
// of its own to a backend; the backends take turns.
func floor(listen string, backends []string) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	addr, err := inet(listen)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, addr), unix.Listen(fd, 4096)); err != nil {
		return err
	}
	p := pipes{epoll: epoll, buf: make([]byte, 64<<10)}
	if err := p.add(fd, nil); err != nil {
		return err
	}
	var to []unix.Sockaddr
	for _, b := range backends {
		a, err := inet(b)
		if err != nil {
			return err
		}
		to = append(to, a)
	}
	events := make([]unix.EpollEvent, 512)
	for turn := 0; ; {
		n, err := unix.EpollWait(epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) != fd {
				p.move(p.ends[e.Fd])
				continue
			}
			for {
				client, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				if errors.Is(err, unix.EAGAIN) {
					break
				}
				if err == nil {
					err = p.join(client, to[turn%len(to)])
					turn++
				}
				if err != nil {
					return err
				}
			}
		}
	}
}

// inet is an IPv4 address of a socket.
func inet(addr string) (*unix.SockaddrInet4, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	return &unix.SockaddrInet4{Port: n, Addr: [4]byte(net.ParseIP(host).To4())}, err
}

// An end is one side of a pipe.
type end struct {
	fd      int
	other   *end
	waiting []byte // read from the other end, not yet written to this one
	closed  bool
}

type pipes struct {
	epoll int
	ends  []*end // by descriptor
	buf   []byte
}

func (p *pipes) add(fd int, e *end) error {
	for len(p.ends) <= fd {
		p.ends = append(p.ends, nil)
	}
	p.ends[fd] = e
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (p *pipes) join(client int, to unix.Sockaddr) error {
	backend, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	a, b := &end{fd: client}, &end{fd: backend}
	a.other, b.other = b, a
	return errors.Join(
		unix.Connect(backend, to), // over loopback: at once
		unix.SetNonblock(backend, true),
		unix.SetsockoptInt(client, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(backend, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		p.add(client, a), p.add(backend, b),
	)
}

// move takes what an end has to the other one. An end whose other one is full is
// not read; it has something to write itself then.
func (p *pipes) move(e *end) {
	if e == nil || e.closed {
		return
	}
	if len(e.waiting) > 0 {
		p.write(e, e.waiting)
		return
	}
	if len(e.other.waiting) > 0 {
		return
	}
	n, err := unix.Read(e.fd, p.buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case err != nil || n == 0:
		p.close(e)
	default:
		p.write(e.other, p.buf[:n])
	}
}

func (p *pipes) write(e *end, b []byte) {
	n, err := unix.Write(e.fd, b)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		p.close(e)
		return
	}
	had := len(e.waiting) > 0
	e.waiting = append([]byte(nil), b[max(n, 0):]...)
	if has := len(e.waiting) > 0; has != had {
		// One direction at a time: who is full is written to, and its other end not
		// read.
		mine, theirs := uint32(unix.EPOLLIN), uint32(unix.EPOLLIN)
		if has {
			mine, theirs = unix.EPOLLOUT, 0
		}
		_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, e.fd, &unix.EpollEvent{Events: mine, Fd: int32(e.fd)})
		_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, e.other.fd, &unix.EpollEvent{Events: theirs, Fd: int32(e.other.fd)})
	}
}

func (p *pipes) close(e *end) {
	for _, e := range []*end{e, e.other} {
		e.closed = true
		p.ends[e.fd] = nil
		unix.Close(e.fd)
	}
}
