package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"muster/catalog"
)

// A record remembers across restarts which service was exposed for being the
// only one, and when that was last true: a balancer that starts while it is away
// must not expose another that stood beside it.
type record struct {
	path string // "": nothing is kept
	log  *slog.Logger
	all  []exposed // of every store and prefix, this one's first

	services int  // that were known when it was written
	away     bool // the sole service was
}

// An exposed is the record of one store and prefix. The store is known again by
// any of its addresses, so that a new member or password loses nothing.
type exposed struct {
	Store    []string `json:"store"`
	Prefix   string   `json:"prefix"`
	Sole     string   `json:"sole"`
	Revision int64    `json:"revision"` // of the store, when this was written
}

// maxRecords is how many stores are remembered.
const maxRecords = 100

// openRecord reads dir's record of a store and prefix. One that can't be read is
// a warning, and starts anew.
func openRecord(dir, store, prefix string, log *slog.Logger) *record {
	r := &record{log: log, all: []exposed{{Store: addresses(store), Prefix: prefix}}}
	if dir == "" || store == "" {
		return r
	}
	r.path = filepath.Join(dir, "exposed.json")
	text, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r
	}
	var all []exposed
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		log.Warn("record of the exposed service can't be read, starting without", "file", r.path, "err", err)
		return r
	}
	own := func(e exposed) bool {
		return e.Prefix == prefix && slices.ContainsFunc(e.Store, func(addr string) bool { return slices.Contains(r.all[0].Store, addr) })
	}
	if i := slices.IndexFunc(all, own); i >= 0 {
		r.all[0].Sole, r.all[0].Revision = all[i].Sole, all[i].Revision
	}
	r.all = append(r.all, slices.DeleteFunc(all, own)...)
	return r
}

// addresses are what a store URL names: HOST:PORT of each member, or a path. No
// user and no password.
func addresses(storeURL string) []string {
	scheme, rest, ok := strings.Cut(storeURL, "://")
	if !ok {
		return []string{storeURL}
	}
	rest, _, _ = strings.Cut(rest, "?")
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	var all []string
	for addr := range strings.SplitSeq(strings.TrimRight(rest, "/"), ",") {
		if strings.HasPrefix(scheme, "etcd") && strings.LastIndexByte(addr, ':') <= strings.LastIndexByte(addr, ']') {
			addr += ":2379"
		}
		all = append(all, addr)
	}
	return all
}

// sole is the service that was exposed, and the revision at which that was
// written.
func (r *record) sole() (service string, revision int64) { return r.all[0].Sole, r.all[0].Revision }

// keep writes the record where the sole service is another, came or left, or a
// service came that was not known. One that can't be written is one warning; the
// balancer carries on.
func (r *record) keep(sole string, snapshot *catalog.Snapshot, services int) {
	svc := snapshot.Service(sole)
	away := svc == nil || svc.Gone()
	if r.path == "" || sole == r.all[0].Sole && (sole == "" || services == r.services && away == r.away) {
		return
	}
	r.services, r.away = services, away
	r.all[0].Sole, r.all[0].Revision = sole, snapshot.Revision
	if err := r.write(); err != nil {
		r.log.Warn("record of the exposed service can't be kept: a restart beside a second service will expose none (see -state)", "err", err)
		r.path = ""
	}
}

func (r *record) write() error {
	if err := os.MkdirAll(filepath.Dir(r.path), 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(r.all[:min(len(r.all), maxRecords)])
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(r.path+".new", r.path)
}
