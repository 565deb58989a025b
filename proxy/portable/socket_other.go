//go:build !linux

package portable

import (
	"errors"
	"syscall"
)

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) { return retry(syscall.Read, fd, p) }

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) { return retry(syscall.Write, fd, p) }

func retry(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, err := call(int(fd), p)
		if err == nil {
			return n, 0
		}
		if errno := errnoOf(err); errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// sysPeek is sysRead that leaves what it reads.
func sysPeek(fd uintptr, p []byte) (int, syscall.Errno) {
	return retry(func(fd int, p []byte) (int, error) {
		n, _, err := syscall.Recvfrom(fd, p, syscall.MSG_PEEK)
		return n, err
	}, fd, p)
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}
