package proxy_test

import (
	"context"
	"testing"

	"muster/config"
	"muster/proxy"
	"muster/proxy/drivertest"
)

// TestDriver holds the driver to the contract. What it does not keep yet is in
// the list, which only shrinks.
func TestDriver(t *testing.T) {
	drivertest.Run(t, startConfig, drivertest.ReadNotYet(t, "testdata/driver-not-yet.txt"))
}

// startConfig runs a proxy as a muster.toml says.
func startConfig(_ testing.TB, text string) (string, func(), error) {
	file, err := config.Parse("muster.toml", []byte(text))
	if err != nil {
		return "", nil, err
	}
	plan, _ := config.Plan(file, config.Flags{Default: "web"}, nil)
	p := proxy.New(proxy.Config{})
	p.Update(plan)
	if err := p.Listen(); err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return p.Addrs()[0], func() {
		cancel()
		<-done
	}, nil
}
