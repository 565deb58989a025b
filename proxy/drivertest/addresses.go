package drivertest

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// addresses are what the variables of a script stand for. free gives them back.
func addresses(r *rig, s *script) (vars map[string]string, free func(), err error) {
	vars, free = map[string]string{"ORIGIN": r.l.Addr().String()}, func() {}
	settings := strings.Join(s.settings["service"], "\n")
	if strings.Contains(settings, "$DEAD") {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		l.Close()
		vars["DEAD"] = l.Addr().String()
	}
	if strings.Contains(settings, "$FULL") {
		vars["FULL"], free, err = fullBacklog()
	}
	return vars, free, err
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
