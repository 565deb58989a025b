package proctest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Server returns the path of a server that scripts/servers builds into .cache/bin,
// each from a module of its own: that takes minutes, and no test waits for it.
// One that is not there is [Missing].
func Server(tb testing.TB, name string) string {
	tb.Helper()
	root, err := Root()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(root, ".cache", "bin", name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		Missing(tb, path)
	} else if err != nil {
		tb.Fatal(err)
	}
	return path
}
