package drivertest

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// addresses are what the variables of a script stand for. free gives them back.
func addresses(r *rig, s *script) (vars map[string]string, free func(), err error) {
	vars = map[string]string{"ORIGIN": r.l.Addr().String()}
	var held []func()
	free = func() {
		for _, f := range held {
			f()
		}
	}
	settings := strings.Join(s.settings["service"], "\n")
	for name, hold := range map[string]func() (string, func(), error){"DEAD": dead, "FULL": fullBacklog} {
		if !strings.Contains(settings, "$"+name) {
			continue
		}
		addr, f, err := hold()
		if err != nil {
			free()
			return nil, nil, err
		}
		vars[name], held = addr, append(held, f)
	}
	return vars, free, nil
}

// dead is an address where nobody listens, nor will: it is the near end of a
// connection.
func dead() (addr string, free func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		l.Close()
		return "", nil, err
	}
	return c.LocalAddr().String(), func() {
		c.Close()
		l.Close()
	}, nil
}

// fullBacklog is an address that answers no attempt to connect: nobody accepts,
// and the one connection that fits into its queue is there.
func fullBacklog() (addr string, free func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err == nil {
		var listened error
		err = raw.Control(func(fd uintptr) { listened = syscall.Listen(int(fd), 0) })
		err = errors.Join(err, listened)
	}
	if err != nil {
		l.Close()
		return "", nil, err
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		l.Close()
		return "", nil, err
	}
	return l.Addr().String(), func() {
		c.Close()
		l.Close()
	}, nil
}
