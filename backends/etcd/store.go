// Package etcd reads, watches and announces keys in etcd.
//
// A [Store] has one client per configured address, made when it is first
// needed, so that a frozen member costs nothing but itself. Watch is one raw
// stream: list the ranges at a revision, stream from that revision, drop what is
// not newer, ask for progress so that silence means a stuck address, and after a
// break prove where we are before going on (watch.go). A [Lease] holds a lease
// for as long as it runs, and writes keys under it with guards (lease.go,
// write.go).
//
//	etcd://a,b,c ──┬─ member a ── client ── list, stream ──> Change
//	               ├─ member b      (the next one when a breaks)
//	               └─ member c ── client ── keep-alive stream, guarded Txn
package etcd

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"muster/backends"
)

// answerWithin is how long a member may take to answer before it is given up
// for the next one.
const answerWithin = 1500 * time.Millisecond

// Config says where etcd is and how to get in.
type Config struct {
	// Nodes are the members' client addresses: HOST, HOST:PORT (2379 if none is
	// given), or a URL of scheme http or https. Empty means 127.0.0.1:2379.
	Nodes []string

	// TLS is used for nodes without a scheme when it is set or one of the files
	// is. CA holds the roots that sign servers (empty: the system's), Cert and
	// Key the client's certificate; it is read again at every handshake.
	TLS           bool
	CA, Cert, Key string
	// Insecure accepts any server certificate.
	Insecure bool

	// User and Password are etcd's own. Empty means no authentication.
	User, Password string

	// Log is told when trouble starts and when it ends; nil means nobody.
	Log *slog.Logger
}

var _ backends.Store = (*Store)(nil)

// A Store is etcd behind one or several addresses. All methods may be called at
// the same time, but Close.
type Store struct {
	members   []*member
	answering atomic.Int32 // the index of the member that answered last
	log       *slog.Logger
}

// Open is [New] with a store URL:
//
//	etcd://[user[:password]@]HOST[:PORT][,HOST[:PORT]][?ca=FILE&cert=FILE&key=FILE&password=file:FILE]
//
// Scheme etcds means TLS. log may be nil.
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, err := ParseURL(rawurl)
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	return New(cfg)
}

// New checks cfg and returns at once: etcd is first asked when something is
// wanted of it. An error means that cfg is wrong, never that etcd is away.
func New(cfg Config) (*Store, error) {
	s := &Store{log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	tls, err := cfg.tls()
	errs := []error{err}
	if cfg.User == "" && cfg.Password != "" {
		errs = append(errs, errors.New("a password without a user"))
	}
	nodes := cfg.Nodes
	if len(nodes) == 0 {
		nodes = []string{"127.0.0.1"}
	}
	for _, node := range nodes {
		secure, addr, err := cfg.node(node)
		errs = append(errs, err)
		m := &member{addr: addr, user: cfg.User, password: cfg.Password, turn: make(chan struct{}, 1)}
		if secure {
			m.tls = tls
		}
		if !slices.ContainsFunc(s.members, func(o *member) bool { return o.addr == addr }) {
			s.members = append(s.members, m)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the connections. No Watch and no Lease may be running.
func (s *Store) Close() error {
	var errs []error
	for _, m := range s.members {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// pause waits for d or until ctx ends, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
