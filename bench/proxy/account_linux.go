package main

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// pressure is how much of the last ten seconds somebody waited for a processor,
// in percent; "?" where the kernel does not tell.
func pressure() string {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return "?"
	}
	_, rest, _ := strings.Cut(string(text), "avg10=")
	value, _, _ := strings.Cut(rest, " ")
	return value + " %"
}

// pin keeps this thread, and what it starts, on one core.
func pin(core int) error {
	var set unix.CPUSet
	set.Set(core)
	return unix.SchedSetaffinity(0, &set)
}

// cores are those this process may use.
func cores() (all []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	for i := range 1024 {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all, nil
}
