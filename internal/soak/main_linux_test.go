package soak_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"muster/internal/proctest"
)

var (
	duration = flag.Duration("for", 5*time.Second, "how long the traffic goes on")
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the traffic")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	proctest.Clean()
	os.Exit(code)
}
