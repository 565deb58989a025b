// Command server is a Consul agent for tests: Consul's own code, started by its
// own flags, without the rest of its commands.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/consul/agent"
	"github.com/hashicorp/consul/agent/config"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var opts config.LoadOpts
	flags := flag.NewFlagSet("consul", flag.ContinueOnError)
	config.AddFlags(flags, &opts)
	if err := flags.Parse(args); err != nil {
		return err
	}
	deps, err := agent.NewBaseDeps(func(source config.Source) (config.LoadResult, error) {
		opts.DefaultConfig = source
		return config.Load(opts)
	}, os.Stderr)
	if err != nil {
		return err
	}
	a, err := agent.New(deps)
	if err != nil {
		return err
	}
	defer a.ShutdownEndpoints()
	defer a.ShutdownAgent()
	if err := a.Start(ctx); err != nil {
		return err
	}
	a.StartSync()
	select {
	case <-ctx.Done():
	case <-a.Failed():
	case <-a.ShutdownCh():
	}
	return nil
}
