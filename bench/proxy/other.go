//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "this benchmark needs linux: epoll, and processors to pin to")
	os.Exit(1)
}
