//go:build !linux

package sidekick

import "syscall"

// dieWithParent does nothing: only Linux ties a process to its parent.
func dieWithParent(*syscall.SysProcAttr) {}
