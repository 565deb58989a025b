package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// foreground reports whether f is a terminal that belongs to this process now:
// one in the background would be stopped for reading from it.
func foreground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
