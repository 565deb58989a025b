package proctest

import "syscall"

// dieWithParent makes the kernel end a child when the test binary is killed, or
// panics, and no Cleanup runs.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
