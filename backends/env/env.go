// Package env reads environment variables as keys: NET_A_B is /net/a/b. Nobody
// outside can change the environment of a process, so a watch mostly says
// everything once, and from then on that it is still there.
package env

import (
	"context"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"muster/backends"
)

// Config says what to read; its zero value is a store without keys.
type Config struct {
	// Environ gives the environment: os.Environ. It is asked once a second.
	Environ func() []string

	// Match is the rule by which a variable belongs to a prefix:
	// [backends.Under], which nil means too, takes NET and NET_MASK for /net;
	// [backends.HasPrefix], confd's rule, takes NETMASK as well.
	Match func(prefix, key string) bool
}

// A Store is an environment.
type Store struct {
	Config
	interval time.Duration // zero but in tests, which change the environment often
}

var _ backends.Store = (*Store)(nil)

// New returns the store that c describes.
func New(c Config) *Store {
	if c.Match == nil {
		c.Match = backends.Under
	}
	if c.Environ == nil {
		c.Environ = func() []string { return nil }
	}
	return &Store{Config: c}
}

// Watch yields the variables under prefixes. Names are asked for in capitals:
// the prefix /net finds NET_MASK and not net_mask, which only "/" finds.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return backends.Poll(ctx, s.interval, nil, func(context.Context) ([]backends.KV, int64, error) {
		return s.read(prefixes), 0, nil
	})
}

func (s *Store) read(prefixes []string) []backends.KV {
	wanted := make([]string, len(prefixes))
	for i, p := range prefixes {
		wanted[i] = levels(strings.ToUpper(strings.TrimPrefix(p, "/")))
	}
	values := make(map[string]string)
	for _, v := range slices.Sorted(slices.Values(s.Environ())) {
		name, value, ok := strings.Cut(v, "=")
		if ok && name != "" && backends.UnderAny(s.Match, wanted, levels(name)) {
			// A_B and A__B are one key; the later in the order of names wins.
			values[path.Clean(levels(strings.ToLower(name)))] = value
		}
	}
	kvs := make([]backends.KV, 0, len(values))
	for key, value := range values {
		kvs = append(kvs, backends.KV{Key: key, Value: value})
	}
	return kvs
}

// levels turns a variable's name, or a key without its first slash, into a path.
func levels(name string) string { return "/" + strings.ReplaceAll(name, "_", "/") }

// Close does nothing: an environment holds nothing.
func (s *Store) Close() error { return nil }
