// Package zookeeper reads and watches keys in ZooKeeper: a node's path is the
// key and its data the value. A node that has children is a key only where it has
// data too.
//
// A watch has a connection and a session of its own (link.go). It reads the tree
// below its prefixes and leaves a watch at every node (tree.go, watch.go):
// ZooKeeper tells of a change before it answers with what was changed, so when
// everything it told of has been read again, what was read is the tree as it was
// at one moment. When the connection breaks, so does the session with its
// watches, whatever ZooKeeper would have allowed: the next one reads everything.
package zookeeper

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"

	"muster/backends"
	"muster/internal/failover"
	"muster/internal/storeaddr"
)

const (
	defaultPort = "2181"
	securePort  = "2281" // the one of ZooKeeper's examples
)

// Config says where ZooKeeper is and how to get in.
type Config struct {
	// Nodes are the servers of the ensemble: HOST[:PORT] (2181 if no port is
	// given, 2281 with TLS), or one URL as [Open] takes it. Empty means 127.0.0.1.
	Nodes []string

	// TLS is used for nodes that are no URL. Files are also those of a URL with TLS
	// that names none.
	TLS   bool
	Files storeaddr.TLS

	// Chroot is the node below which the keys lie, as /muster; empty is the root.
	Chroot string

	// User and Password are those of the scheme digest. Empty means none.
	User, Password string

	// Log is told of nodes that may not be read; nil means nobody.
	Log *slog.Logger
}

// A Store is ZooKeeper behind one or several addresses. All methods may be
// called at the same time.
type Store struct {
	addrs  []string
	chroot string // no slash at its end
	digest string // user:password, or empty
	secure *secure
	log    *slog.Logger
}

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL:
//
//	zk://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]][/CHROOT][?password=file:FILE]
//
// Scheme zks means TLS, with the parameters ca, cert and key, which are files. log
// may be nil.
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, err := ParseURL(rawurl)
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	return New(cfg)
}

// ParseURL reads a store URL as [Open] takes it. Files of TLS are read by New.
func ParseURL(rawurl string) (Config, error) {
	var cfg Config
	u, err := storeaddr.Parse(rawurl, "ca", "cert", "key", "password")
	if err != nil {
		return cfg, err
	}
	if cfg.TLS = u.Scheme == "zks"; !cfg.TLS && u.Scheme != "zk" {
		return cfg, u.Wrong("want zk://HOST:PORT or zks://HOST:PORT")
	}
	cfg.Files = storeaddr.TLS{CA: u.Get("ca"), Cert: u.Get("cert"), Key: u.Get("key")}
	if cfg.Files != (storeaddr.TLS{}) && !cfg.TLS {
		return cfg, u.Wrong("ca, cert and key are for TLS: want zks://")
	}
	cfg.Nodes, cfg.User, cfg.Password = u.Nodes, u.User, u.Password
	if u.Path != "" {
		cfg.Chroot = "/" + strings.TrimRight(u.Path, "/")
	}
	secret, err := u.Secret("password")
	switch {
	case err != nil:
		return cfg, err
	case secret != "" && cfg.Password != "":
		return cfg, u.Wrong("two passwords: want one, before @ or in a file")
	case secret != "":
		cfg.Password = secret
	}
	if (cfg.User == "") != (cfg.Password == "") {
		return cfg, u.Wrong("want USER:PASSWORD before @, or USER and password=file:PATH")
	}
	for _, node := range cfg.Nodes {
		if _, err := storeaddr.HostPort(node, defaultPort); err != nil {
			return cfg, u.Wrong("%w", err)
		}
	}
	return cfg, nil
}

// New checks cfg and returns at once: ZooKeeper is first asked when it is
// watched. An error means that cfg is wrong, never that ZooKeeper is away.
func New(cfg Config) (*Store, error) {
	if len(cfg.Nodes) == 1 && strings.Contains(cfg.Nodes[0], "://") {
		url, err := ParseURL(cfg.Nodes[0])
		if err != nil {
			return nil, err
		}
		url.Log = cfg.Log
		if url.Files == (storeaddr.TLS{}) {
			url.Files = cfg.Files
		}
		cfg = url
	}
	s := &Store{chroot: strings.TrimRight(cfg.Chroot, "/"), log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if cfg.User != "" {
		s.digest = cfg.User + ":" + cfg.Password
	}
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = []string{"127.0.0.1"}
	}
	var errs []error
	port := defaultPort
	if cfg.TLS {
		port = securePort
		var err error
		s.secure, err = newSecure(cfg.Files)
		errs = append(errs, err)
	}
	if s.chroot != "" && (!strings.HasPrefix(s.chroot, "/") || !isPath(s.chroot)) {
		errs = append(errs, errors.New("chroot: want a path as /muster"))
	}
	for _, node := range cfg.Nodes {
		addr, err := storeaddr.HostPort(node, port)
		errs = append(errs, err)
		s.addrs = append(s.addrs, addr)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Watch follows the keys under prefixes, as [backends.Store] says. Each break of
// the connection gives one error, and nothing more until it has healed. A node
// that may not be read is left out, and logged; a prefix that may not be read is
// an error. Of everything, /zookeeper is left out, which is ZooKeeper's own. A
// Change holds whole transactions, unless nodes change faster than they can be
// read. Created, Modified and Revision are ZooKeeper's zxids, Lease the session
// that owns an ephemeral node.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.watch(ctx, prefixes, false)
}

// WatchTogether is Watch, but leaves out no node that may not be read: that is
// [backends.ErrDenied].
func (s *Store) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.watch(ctx, prefixes, true)
}

func (s *Store) watch(ctx context.Context, prefixes []string, whole bool) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		w := &watch{store: s, roots: s.roots(prefixes), whole: whole, yield: yield}
		failover.Follow(ctx, len(s.addrs), w.session, func(err error) bool { return yield(backends.Change{}, err) })
	}
}

// Read returns every key under prefixes, from the first server that answers. The
// error is of all of them.
func (s *Store) Read(ctx context.Context, prefixes []string) (full backends.Change, err error) {
	w := &watch{store: s, roots: s.roots(prefixes), whole: true}
	w.yield = func(c backends.Change, _ error) bool {
		full = c
		return false
	}
	var errs []error
	for at := range s.addrs {
		_, err := w.session(ctx, at)
		if errors.Is(err, failover.ErrLeft) {
			return full, nil
		}
		errs = append(errs, err)
	}
	return full, storeaddr.Together(errs...)
}

// Close does nothing: a Store holds something only while it is watched.
func (s *Store) Close() error { return nil }

// roots are the nodes to read with all that lies below them, none below another.
func (s *Store) roots(prefixes []string) []string {
	var roots []string
	for _, p := range prefixes {
		p = strings.TrimRight(p, "/")
		root := s.chroot + p
		if root == "" {
			root = "/"
		}
		if (p == "" || p[0] == '/') && isPath(root) { // nothing else can be a node
			roots = append(roots, root)
		}
	}
	return backends.Outermost(roots)
}

// isPath reports whether ZooKeeper takes path as the name of a node.
func isPath(path string) bool {
	if path == "/" {
		return true
	}
	for element := range strings.SplitSeq(path[1:], "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
	}
	return !strings.ContainsFunc(path, func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0 && r <= 0xffff
	})
}
