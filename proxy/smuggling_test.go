package proxy_test

import (
	"testing"

	"muster/proxy/drivertest/smuggling"
)

// TestSmuggling sends ambiguous messages through the driver to real servers:
// none of them may see a request that the driver did not.
func TestSmuggling(t *testing.T) {
	smuggling.Run(t, startConfig, 100)
}
