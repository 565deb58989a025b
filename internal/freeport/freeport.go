// Package freeport hands out loopback addresses to tests, each to one process
// only, although the tests of several packages run at the same time.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Addr returns a loopback address that nobody listens on and that no other
// caller gets while this process lives: it holds a lock on a file that is named
// for the port. The port lies below those that systems hand out by themselves.
// One of those could be taken while a server is down for a moment, and a client
// that dials its own port even connects to itself.
func Addr() (string, error) {
	dir := filepath.Join(os.TempDir(), "muster-test-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	err := error(nil)
	for range 200 {
		port := 10000 + rand.IntN(20000)
		if err = reserve(filepath.Join(dir, strconv.Itoa(port))); err != nil {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", err
}

// reserve locks the file at path for as long as this process lives: its
// descriptor is never closed.
func reserve(path string) error {
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		syscall.Close(fd)
		return err
	}
	return nil
}
