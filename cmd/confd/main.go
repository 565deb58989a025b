// Confd is confd's command line over muster's templates: the same flags, the
// same confd.toml and conf.d, the same log lines and exit codes.
package main

import (
	"context"
	"os"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/confd"
)

func main() {
	os.Exit(confd.Main(context.Background(), cli.OS(), os.Args[0], os.Args[1:]))
}
