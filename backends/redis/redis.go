// Package redis reads and watches keys in Redis: a string is a key, a hash is a
// level whose fields are keys.
//
//	SET /services/web/1 10.0.0.4:80         /services/web/1 = 10.0.0.4:80
//	HSET /config/web timeout 5s             /config/web/timeout = 5s
//
// A watch has two connections (watch.go): one is told by keyspace notifications
// which keys to look at (events.go), the other reads them (read.go) and finds out
// every half second whether what is known is still there. Redis tells of changes
// only where its setting notify-keyspace-events says so; else the keys are listed
// and compared every second, and the log says what to set.
package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"muster/backends"
	"muster/internal/failover"
	"muster/internal/storeaddr"
)

// answerWithin is how long a server may take to answer before it is given up
// for the next one.
const answerWithin = 1500 * time.Millisecond

// dialWithin is how long a server may take to let us in: to shake hands, to take
// the password, and before that a sentinel to say where it is.
const dialWithin = 2 * answerWithin

// Config says where Redis is and how to get in.
type Config struct {
	// Nodes are the servers, each with the same keys, of which the first that
	// answers is used: HOST[:PORT][/DATABASE] (6379 if no port is given), the path
	// of a unix socket, or a URL as [Open] takes it. Empty means 127.0.0.1:6379.
	Nodes []string

	// DB is the database of nodes that name none.
	DB int

	// User and Password log in. Without User it is the default user, or the one
	// password of requirepass.
	User, Password string

	// TLS is used for nodes that are no URL and no socket.
	TLS   bool
	Files storeaddr.TLS

	// Sentinel is the name of a master, whose address the Nodes, which are
	// sentinels then (26379 if no port is given), know. SentinelPassword is theirs.
	Sentinel, SentinelPassword string

	// Separator is what stands between levels in Redis: with ":" the key
	// /services/web/1 is services:web:1 there. Empty means that keys are in
	// Redis as they are here.
	Separator string

	// Log is told what to set so that changes arrive at once; nil means nobody.
	Log *slog.Logger
}

// A Store is Redis behind one or several addresses. All methods may be called at
// the same time.
type Store struct {
	nodes []node
	names names
	log   *slog.Logger

	mu   sync.Mutex // guards what follows
	said string     // why keys are listed every second, as the log was told last
}

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL:
//
//	redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]][/DATABASE][?separator=S&sentinel=NAME&…]
//
// Scheme rediss means TLS, with the parameters ca, cert and key, which are files;
// password=file:FILE and sentinel-password=file:FILE keep secrets out of the
// command line. log may be nil.
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, err := ParseURL(rawurl)
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	return New(cfg)
}

// New checks cfg and returns at once: Redis is first asked when it is watched.
// An error means that cfg is wrong, never that Redis is away.
func New(cfg Config) (*Store, error) {
	s := &Store{names: names{cfg.Separator}, log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = []string{"127.0.0.1"}
	}
	var errs []error
	for _, text := range cfg.Nodes {
		nodes, err := cfg.nodes(text)
		if err == nil {
			for i := range nodes {
				err = errors.Join(err, nodes[i].prepare())
			}
		}
		errs = append(errs, err)
		s.nodes = append(s.nodes, nodes...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Reach logs in to one of the servers after the other until one lets us, and
// leaves again. Its error is of all of them. Watch needs no Reach: it is for who
// wants to end where nothing can be reached.
func (s *Store) Reach(ctx context.Context) error {
	var errs []error
	for _, n := range s.nodes {
		conn, _, err := n.dial(ctx)
		if err == nil {
			conn.Close()
			return nil
		}
		errs = append(errs, err)
	}
	return storeaddr.Together(errs...)
}

// Watch follows the keys under prefixes, as [backends.Store] says. Each break of
// the connection gives one error, and nothing more until it has healed. What is
// written in one MULTI arrives in one Change, as long as nobody else writes at
// the same moment: Redis has no revisions. Revisions are counted.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.watch(ctx, s.names.wanted(prefixes))
}

// WatchTogether is Watch, but leaves out no key that is a prefix and may not be
// read: that is [backends.ErrDenied].
func (s *Store) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	w := s.names.wanted(prefixes)
	w.whole = true
	return s.watch(ctx, w)
}

func (s *Store) watch(ctx context.Context, w wanted) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		watch := &watch{store: s, wanted: w, yield: yield}
		failover.Follow(ctx, len(s.nodes), watch.session, func(err error) bool { return yield(backends.Change{}, err) })
	}
}

// Read returns every key under prefixes, from the first server that answers. The
// error is of all of them. Keys that are written meanwhile are as they were
// before or after.
func (s *Store) Read(ctx context.Context, prefixes []string) (backends.Change, error) {
	w := s.names.wanted(prefixes)
	w.whole = true
	var errs []error
	for i := range s.nodes {
		all, err := s.nodes[i].read(ctx, &w)
		if err == nil {
			v := newView()
			v.replace(all)
			return v.full(), nil
		}
		errs = append(errs, err)
	}
	return backends.Change{}, storeaddr.Together(errs...)
}

// Close does nothing: a Store holds something only while it is watched.
func (s *Store) Close() error { return nil }

// tell logs why keys are listed every second, or that it is over where why is
// "", once for all watches.
func (s *Store) tell(addr, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why == s.said {
		return
	}
	s.said = why
	if why == "" {
		s.log.Info("redis tells of changes now", "store", "redis "+addr)
		return
	}
	s.log.Warn(fmt.Sprintf("redis tells of no changes, so keys are read every second: %s", why), "store", "redis "+addr)
}
