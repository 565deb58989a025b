//go:build !linux

package procstat

import (
	"errors"
	"time"
)

// CPU is what a process has used of the processors so far.
func CPU(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

// Memory is what a process has resident, now and at most, in bytes.
func Memory(int) (now, most int, err error) { return 0, 0, errors.ErrUnsupported }
