// Package file reads YAML, JSON and TOML files as keys: the members of maps
// and lists are levels, the scalars are values.
//
//	net: {mask: 24, dns: [a, b]}     /net/mask 24, /net/dns/0 a, /net/dns/1 b
//
// A [Store] reads all its files again whenever one of them may have changed, and
// once a second in any case, and yields the difference.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"muster/backends"
)

// Config says what to read; its zero value is a store without keys.
type Config struct {
	// Paths are files, and folders that are walked down in the byte order of
	// names. A later file overrides an earlier one key by key. A link to a
	// file is followed, a link to a folder only with a slash behind it. In
	// folders names that begin with ".." are left out: behind them Kubernetes
	// keeps the versions of a volume, and its links lead to the one that holds.
	Paths []string

	// Filter is a pattern as of path/filepath.Match for the base names of files
	// in folders; it says nothing about files that Paths names. Empty matches
	// no name, as in confd: "*" takes all.
	Filter string

	// Match is the rule by which a key belongs to a prefix: [backends.Under],
	// which nil means too, or [backends.HasPrefix], confd's rule.
	Match func(prefix, key string) bool
}

// A Store is a set of files.
type Store struct{ Config }

var _ backends.Store = (*Store)(nil)

// New names the files; they are read when they are watched.
func New(c Config) *Store {
	if c.Match == nil {
		c.Match = backends.Under
	}
	return &Store{c}
}

// Open opens file:PATH, where PATH may be a folder.
func Open(rawurl string) (*Store, error) {
	path, ok := strings.CutPrefix(rawurl, "file:")
	if !ok {
		return nil, fmt.Errorf("store %q: want file:PATH", rawurl)
	}
	if rest, ok := strings.CutPrefix(path, "//"); ok { // file:///PATH has an empty host
		if !strings.HasPrefix(rest, "/") {
			return nil, fmt.Errorf("store %q: file://HOST names another host, want file:PATH", rawurl)
		}
		path = rest
	}
	if path == "" {
		return nil, errors.New(`store "file:": want file:PATH`)
	}
	return New(Config{Paths: []string{path}, Filter: "*"}), nil
}

// Watch yields the keys under prefixes. A file that is missing or broken is an
// error of the whole store: what was read before stays until it is repaired.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		n := s.notify()
		defer n.close()
		read := func(context.Context) ([]backends.KV, int64, error) {
			kvs, err := s.read(prefixes)
			return kvs, 0, err
		}
		for c, err := range backends.Poll(ctx, 0, n.wake, read) {
			if !yield(c, err) {
				return
			}
		}
	}
}

// Close does nothing: a Store holds something only while it is watched.
func (s *Store) Close() error { return nil }

func (s *Store) read(prefixes []string) ([]backends.KV, error) {
	values := make(map[string]string)
	err := s.files(func(path string) error {
		text, err := readSettled(path)
		if err != nil {
			return err
		}
		if err := flatten(values, path, text); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var kvs []backends.KV
	for key, value := range values {
		if backends.UnderAny(s.Match, prefixes, key) {
			kvs = append(kvs, backends.KV{Key: key, Value: value})
		}
	}
	return kvs, nil
}

// files calls use for each file, in the order in which they override.
func (s *Store) files(use func(path string) error) error {
	for _, root := range s.Paths {
		info, err := os.Stat(root)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			if err := use(root); err != nil {
				return err
			}
			continue
		}
		err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case strings.HasPrefix(entry.Name(), "..") && path != root && entry.IsDir():
				return filepath.SkipDir
			case strings.HasPrefix(entry.Name(), "..") && path != root, entry.IsDir():
				return nil
			}
			if ok, err := filepath.Match(s.Filter, entry.Name()); !ok {
				return err
			}
			info, err := os.Stat(path) // follows a link
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			return use(path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readSettled reads a file once it was left alone for a moment: one that is being
// written in place would be read half, or empty. It doesn't wait for ever.
func readSettled(path string) (text []byte, err error) {
	for range 10 {
		before, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if age := time.Since(before.ModTime()); age < 0 || age >= quiet {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			if after, err := os.Stat(path); err == nil && after.ModTime().Equal(before.ModTime()) && after.Size() == before.Size() {
				return text, nil
			}
		}
		time.Sleep(quiet)
	}
	return os.ReadFile(path)
}
