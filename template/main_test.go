package template_test

import (
	"flag"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // the recordings were made with it
	flag.Parse()
	_ = flag.Set("test.parallel", "4") // they wait more than they work
	goleak.VerifyTestMain(m)
}
