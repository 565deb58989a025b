package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
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

// A record remembers across restarts which service was exposed for being the
// only one, for one store and prefix.
type record struct {
	path string // "": nothing is kept
	log  *slog.Logger
	sole string // what the file says
}

func openRecord(dir, store, prefix string, log *slog.Logger) record {
	if dir == "" || store == "" {
		return record{}
	}
	r := record{path: stateFile(dir, "exposed", store, prefix, ".json"), log: log}
	text, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r
	}
	var kept struct{ Sole string }
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		log.Warn("record of the exposed service can't be read, starting without", "file", r.path, "err", err)
	}
	r.sole = kept.Sole
	return r
}

// stateFile is the file in dir that keeps what of one store and prefix.
func stateFile(dir, what, store, prefix, suffix string) string {
	sum := sha256.Sum256([]byte(store + " " + prefix))
	return filepath.Join(dir, fmt.Sprintf("%s-%x%s", what, sum[:8], suffix))
}

// keep writes the record if it says something new. One that can't be written is
// one warning; the balancer carries on.
func (r *record) keep(sole string) {
	if r.path == "" || sole == r.sole {
		return
	}
	r.sole = sole
	if err := r.write(); err != nil {
		r.log.Warn("record of the exposed service can't be kept: a restart beside a second service will expose none (see -state)", "err", err)
		r.path = ""
	}
}

func (r *record) write() error {
	if err := os.MkdirAll(filepath.Dir(r.path), 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]string{"sole": r.sole})
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(r.path+".new", r.path)
}
