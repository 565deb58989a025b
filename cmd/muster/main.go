// Muster announces, follows and balances the services of a fleet without
// Kubernetes. Each subcommand is one file; run "muster" for the list.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/confd"
	"muster/cmd/internal/sidekickcmd"
	"muster/internal/near"
)

// A command is one subcommand.
type command struct {
	name, group, summary string
	run                  func(ctx context.Context, std cli.Std, args []string) int
}

var commands = []command{
	{"proxy", "run", "balance HTTP to the services in the store", proxyCommand},
	{"sidekick", "run", "announce an endpoint while its check passes, drain and withdraw it", sidekickcmd.Main},
	{"template", "run", "render templates from the store (confd's engine)", confd.Template},
	{"demo", "run", "embedded etcd, three backends, a balancer and its status page", demo},
	{"check", "help", "say what is wrong in muster.toml, confd.toml, resources and templates", check},
	{"unit", "help", "print the systemd unit of a sidekick", sidekickcmd.Unit},
	{"echo", "help", "a server that says who answered, slow or failing on request", echo},
	{"version", "help", "say which version this is", version},
}

func main() {
	os.Exit(run(context.Background(), cli.OS(), filepath.Base(os.Args[0]), os.Args[1:]))
}

// run is main with its surroundings as arguments. called is the name the binary
// was called by.
func run(ctx context.Context, std cli.Std, called string, args []string) int {
	if called == "confd" {
		return confd.Main(ctx, std, os.Args[0], args)
	}
	if len(args) == 0 {
		usage(std.Err)
		return cli.Usage
	}
	name := args[0]
	switch name {
	case "help", "-h", "-help", "--help":
		usage(std.Out)
		return cli.Done
	case "-version", "--version":
		name = "version"
	}
	for _, c := range commands {
		if c.name == name {
			return c.run(ctx, std, args[1:])
		}
	}
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	fmt.Fprintf(std.Err, "muster: unknown command %q", name)
	if miss := near.Miss(name, names); miss != "" {
		fmt.Fprintf(std.Err, " (did you mean %q?)", miss)
	}
	fmt.Fprintf(std.Err, "\nRun 'muster' for the list.\n")
	return cli.Usage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Service discovery and load balancing for containers and units.\n\nusage: muster COMMAND [flags] [args]\n")
	var groups []string
	for _, c := range commands {
		if !slices.Contains(groups, c.group) {
			groups = append(groups, c.group)
		}
	}
	for _, g := range groups {
		fmt.Fprintf(w, "\n%s\n", g)
		for _, c := range commands {
			if c.group == g {
				fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
			}
		}
	}
	fmt.Fprint(w, "\nFlags of a command: muster COMMAND -h. Called as confd, this binary is confd.\n")
}

func version(_ context.Context, std cli.Std, args []string) int {
	if len(args) > 0 {
		fmt.Fprintf(std.Err, "muster version: unexpected %q\n", strings.Join(args, " "))
		return cli.Usage
	}
	fmt.Fprintf(std.Out, "muster %s %s\n", versionText(), runtime.Version())
	return cli.Done
}

// versionText is the module's version, as the build knows it.
func versionText() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
