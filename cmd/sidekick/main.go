// Sidekick is "muster sidekick" alone, in a small binary for containers: it
// announces one app while it answers.
package main

import (
	"context"
	"os"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/sidekickcmd"
)

func main() {
	std := cli.OS()
	std.Program = "sidekick"
	os.Exit(sidekickcmd.Main(context.Background(), std, os.Args[1:]))
}
