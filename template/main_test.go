package template_test

import (
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // the recordings were made with it
	goleak.VerifyTestMain(m)
}
