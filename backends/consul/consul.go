// Package consul reads and watches Consul's KV store. A key is what Consul calls
// it, with a slash in front; a folder, d/, is the key /d.
//
// A watch lists what begins with its prefixes, each by a blocking query (query.go)
// whose answer is the whole list again as soon as something in it has changed;
// the lists are compared. Blocking queries look alike whether Consul is quiet or
// stuck, so the agent is asked twice a second for its cluster's leader (watch.go).
package consul

import (
	"context"
	"errors"
	"iter"
	"log/slog"

	"muster/backends"
	"muster/internal/failover"
	"muster/internal/storeaddr"
)

// Config says where Consul is and how to get in. What it leaves out of tokens,
// passwords and TLS is taken from the variables of Consul's own client, as
// CONSUL_HTTP_TOKEN and CONSUL_CACERT are.
type Config struct {
	// Nodes are agents of one cluster, of which the first that answers is used:
	// HOST[:PORT] (8500 if no port is given), http:// or https:// before that and a
	// path behind it where a proxy wants one, unix://PATH, or a URL as [Open] takes
	// it. Empty means 127.0.0.1:8500.
	Nodes []string

	// TLS is used for nodes that name no scheme, or http.
	TLS   bool
	Files storeaddr.TLS

	// User and Password are those of HTTP's basic authentication, which proxies
	// before Consul ask for. Empty means none.
	User, Password string

	// TokenFile holds the ACL token. It is read whenever Consul is connected to
	// anew, so a token may be replaced.
	TokenFile string

	// Datacenter is the one whose keys are read; empty means the agent's.
	Datacenter string

	// Match says which keys a prefix holds; nil means [backends.Under]. The other
	// one there is, is [backends.HasPrefix].
	Match func(prefix, key string) bool

	// Log is told of keys that may not be read; nil means nobody.
	Log *slog.Logger
}

// A Store is Consul behind one or several agents. All methods may be called at
// the same time.
type Store struct {
	nodes []*node
	match func(prefix, key string) bool
	log   *slog.Logger
}

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL:
//
//	consul://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]][?token=file:FILE&dc=NAME]
//
// Scheme consuls means TLS, with the parameters ca, cert and key, which are files.
// log may be nil.
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, err := ParseURL(rawurl)
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	return New(cfg)
}

// New checks cfg and returns at once: Consul is first asked when it is watched.
// An error means that cfg is wrong, never that Consul is away.
func New(cfg Config) (*Store, error) {
	s := &Store{match: cfg.Match, log: cfg.Log}
	if s.match == nil {
		s.match = backends.Under
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = []string{"127.0.0.1"}
	}
	var errs []error
	for _, text := range cfg.Nodes {
		nodes, err := cfg.nodes(text)
		errs = append(errs, err)
		s.nodes = append(s.nodes, nodes...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Watch follows the keys under prefixes, as [backends.Store] says. Each break of
// the connection gives one error, and nothing more until it has healed. Keys that
// the token may not read are left out, and logged; a prefix of which it may read
// nothing, though there is something, is an error. Created, Modified and Revision
// are Consul's indexes; Lease is zero, as sessions have no number.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.watch(ctx, prefixes, false)
}

// WatchTogether is Watch, but leaves out no key that may not be read: that is
// [backends.ErrDenied].
func (s *Store) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.watch(ctx, prefixes, true)
}

func (s *Store) watch(ctx context.Context, prefixes []string, whole bool) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		w := &watch{store: s, queries: s.queries(prefixes), whole: whole, yield: yield, shown: make(map[string]bool)}
		failover.Follow(ctx, len(s.nodes), w.session, func(err error) bool { return yield(backends.Change{}, err) })
	}
}

// Read returns every key under prefixes, from the first agent that answers. The
// error is of all of them. Keys that are written meanwhile are as they were before
// or after, but those of one prefix are of one moment.
func (s *Store) Read(ctx context.Context, prefixes []string) (full backends.Change, err error) {
	w := &watch{store: s, queries: s.queries(prefixes), whole: true, shown: make(map[string]bool)}
	w.yield = func(c backends.Change, _ error) bool {
		full = c
		return false
	}
	var errs []error
	for at := range s.nodes {
		_, err := w.session(ctx, at)
		if errors.Is(err, failover.ErrLeft) {
			return full, nil
		}
		errs = append(errs, err)
	}
	return full, storeaddr.Together(errs...)
}

// Close closes the connections that are kept for the next question.
func (s *Store) Close() error {
	for _, n := range s.nodes {
		n.transport.CloseIdleConnections()
	}
	return nil
}
