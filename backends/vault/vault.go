// Package vault reads secrets of Vault's KV engines, of version 1 and 2 alike, and
// watches them by reading them again and again: Vault tells of no changes.
//
//	vault kv put secret/db value=x              /secret/db = x
//	vault kv put secret/db user=u password=p    /secret/db = {"password":"p","user":"u"}
//	                                            /secret/db/user = u  /secret/db/password = p
//
// A Store has one token (login.go), which all its watches share: it is renewed
// before it ends, and another login is made where it is refused. A read (read.go) asks which engine is mounted where, lists the
// folders below its prefixes and reads what is in them.
package vault

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"muster/backends"
	"muster/internal/storeaddr"
)

// DefaultInterval is the time from one read of a watch to the next.
const DefaultInterval = 10 * time.Second

// Config says where Vault is and how to get in.
type Config struct {
	// Nodes are servers of one cluster, of which the first that answers is used:
	// HOST[:PORT] (8200 if no port is given), and http:// or https:// before that.
	// Empty means 127.0.0.1:8200.
	Nodes []string

	// TLS is used for nodes that name no scheme.
	TLS   bool
	Files storeaddr.TLS

	Auth Auth

	// Interval is the time from one read of a watch to the next; zero means
	// [DefaultInterval].
	Interval time.Duration

	// Log is told of what can't be a key, or may not be read; nil means nobody.
	Log *slog.Logger
}

// A Store is Vault behind one or several addresses. All methods may be called at
// the same time.
type Store struct {
	nodes    []*node
	at       atomic.Int64 // the node that answered last
	auth     Auth
	interval time.Duration
	log      *slog.Logger

	login sync.Mutex // guards the session: nobody asks anything while it is made
	session

	mu     sync.Mutex // guards what follows
	told   map[string]bool
	leased map[string]leased
}

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL:
//
//	vault://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]][?auth=TYPE&…]
//
// Scheme vaults means TLS, with the parameters ca, cert and key, which are files.
// The others are those of [Auth]. log may be nil.
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, err := ParseURL(rawurl)
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	return New(cfg)
}

// New checks cfg and returns at once: Vault is first asked when it is watched. An
// error means that cfg is wrong, never that Vault is away.
func New(cfg Config) (*Store, error) {
	s := &Store{auth: cfg.Auth, interval: cfg.Interval, log: cfg.Log, told: make(map[string]bool), leased: make(map[string]leased)}
	if s.interval <= 0 {
		s.interval = DefaultInterval
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = []string{"127.0.0.1"}
	}
	errs := []error{cfg.Auth.check()}
	for _, text := range cfg.Nodes {
		n, err := cfg.node(text)
		errs = append(errs, err)
		s.nodes = append(s.nodes, n)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Reach logs in, where that was not done yet. Watch needs no Reach: it is for who
// wants to end where Vault lets nobody in.
func (s *Store) Reach(ctx context.Context) error {
	_, err := s.ensure(ctx)
	return err
}

// Watch follows the keys under prefixes, as [backends.Store] says, by reading them
// every Interval. Keys of one secret change together. A secret that may not be read is left out, and
// logged; a prefix that may not be read, and under which nothing may be listed, is
// an error, and so is one where nothing is mounted. Revisions are counted.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.watch(ctx, prefixes, false)
}

// WatchTogether is Watch, but leaves out nothing that may not be read or listed:
// that is [backends.ErrDenied].
func (s *Store) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.watch(ctx, prefixes, true)
}

func (s *Store) watch(ctx context.Context, prefixes []string, whole bool) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel() // before wg.Wait
		wg.Go(func() { s.keep(ctx) })
		read := func(ctx context.Context) ([]backends.KV, int64, error) {
			kvs, err := s.read(ctx, prefixes, whole)
			return kvs, 0, err
		}
		for c, err := range backends.Poll(ctx, s.interval, nil, read) {
			if !yield(c, err) {
				return
			}
		}
	}
}

// Read returns every key under prefixes. The error is of all addresses.
func (s *Store) Read(ctx context.Context, prefixes []string) (backends.Change, error) {
	kvs, err := s.read(ctx, prefixes, true)
	if err != nil {
		return backends.Change{}, err
	}
	return backends.Diff(nil, kvs), nil
}

// Close closes the connections that are kept for the next question. The token
// stays valid: others may have been given it.
func (s *Store) Close() error {
	for _, n := range s.nodes {
		n.transport.CloseIdleConnections()
	}
	return nil
}

// tell logs once what is the matter with name.
func (s *Store) tell(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.told[name+"\x00"+text] {
		s.told[name+"\x00"+text] = true
		s.log.Warn(text, "store", "vault", "key", name)
	}
}

// A leased secret is made by Vault for who reads it: reading it again makes
// another, so it is kept for two thirds of its time.
type leased struct {
	data  map[string]any
	until time.Time
}

func (s *Store) kept(path string) (map[string]any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.leased, func(_ string, l leased) bool { return time.Now().After(l.until) })
	l, ok := s.leased[path]
	return l.data, ok
}

func (s *Store) keepFor(path string, data map[string]any, seconds int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leased[path] = leased{data, time.Now().Add(time.Duration(seconds) * time.Second * 2 / 3)}
}

// outer are prefixes without slashes at their ends, and without those below
// others; "" is everything.
func outer(prefixes []string) (all []string) {
	trimmed := slices.Clone(prefixes)
	for i, p := range trimmed {
		trimmed[i] = strings.TrimRight(p, "/")
	}
	slices.Sort(trimmed)
	for _, p := range trimmed {
		// No key is without a slash in front.
		if (p == "" || p[0] == '/') && !backends.UnderAny(nil, all, p) {
			all = append(all, p)
		}
	}
	return all
}

// A noMountError is about one prefix: others may be read.
type noMountError struct{}

func (noMountError) Error() string { return "no secrets engine is mounted there" }
func (noMountError) Unwrap() error { return backends.ErrDenied }
