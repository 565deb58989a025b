package sidekick

import "syscall"

// dieWithParent makes the kernel kill the app when the sidekick is killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
