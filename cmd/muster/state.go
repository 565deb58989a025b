package main

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
)

// stateDir is the default of -state: where a balancer keeps what shall outlive
// it. "" where no folder can be named.
func stateDir(getenv func(string) string) string {
	if dir := getenv("STATE_DIRECTORY"); dir != "" {
		return dir // systemd's StateDirectory=
	}
	if dir := getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "muster")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "muster")
	}
	return ""
}

// stateFile is the file in dir that keeps what of one store and prefix.
func stateFile(dir, what, store, prefix, suffix string) string {
	sum := sha256.Sum256([]byte(store + " " + prefix))
	return filepath.Join(dir, fmt.Sprintf("%s-%x%s", what, sum[:8], suffix))
}
