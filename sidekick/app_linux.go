package sidekick

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dieWithParent makes the kernel kill the process when the sidekick is killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// childInfo is unix.Siginfo as waitid fills it.
type childInfo struct {
	_     [3]int32
	child struct {
		_   [0]uintptr // the kernel's union is aligned like a pointer
		pid int32
	}
}

// endedChild is the number of a child that has ended and that nobody has waited
// for yet, or 0. It stays so.
func endedChild() int {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0
		}
		return int((*childInfo)(unsafe.Pointer(&info)).child.pid)
	}
}
