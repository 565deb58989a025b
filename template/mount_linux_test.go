package template_test

import (
	"syscall"
	"testing"
)

// mountOver makes target show source, until the test ends.
func mountOver(t *testing.T, source, target string) {
	if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(target, 0) })
}
