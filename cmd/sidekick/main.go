// Sidekick is "muster sidekick" alone, in a small binary for containers: it
// announces one app while it answers.
package main

import (
	"context"
	"os"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/sidekickcmd"
)

func main() { os.Exit(sidekickcmd.Main(context.Background(), cli.OS(), os.Args[1:])) }
