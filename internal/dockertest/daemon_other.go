//go:build !linux

package dockertest

import (
	"errors"
	"syscall"
)

// A daemon is a dockerd of ours; there is none but on Linux.
type daemon struct{ host, socket string }

func startDaemon(string, ...string) (*daemon, error) {
	return nil, errors.New("an engine can be started on Linux only: start one by hand")
}

func (*daemon) wait(func() error) error { return nil }
func (*daemon) stop() error             { return nil }
func (*daemon) said() string            { return "" }

func (*daemon) signal(syscall.Signal) error { return nil }
func (*daemon) hold(syscall.Signal) error   { return nil }
func (*daemon) letGo() error                { return nil }
