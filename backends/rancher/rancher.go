// Package rancher reads and watches the metadata service of Rancher 1.x: a document
// for whoever asks, of what runs beside it, in several versions of its form.
//
//	GET /latest/services/web, JSON
//	{"name": "web", "ports": ["80:8080/tcp"], "metadata": {"timeout": 5}}
//
//	/latest/services/web/name             web
//	/latest/services/web/ports/0          80:8080/tcp
//	/latest/services/web/metadata/timeout 5
//
// The service has a version of all it knows, which it tells to who waits for
// another one (watch.go). A prefix is read in one piece (node.go) and taken apart
// into keys (tree.go).
package rancher

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"

	"muster/backends"
	"muster/internal/storeaddr"
)

const (
	defaultHost = "rancher-metadata"
	defaultPort = "80"
)

// Config says where the metadata service is.
type Config struct {
	// Nodes are HOST[:PORT][/PATH] (80 if no port is given), with or without
	// http:// in front, or URLs as [Open] takes them; the first that answers is
	// used. Keys lie below the path, as /latest. Empty means rancher-metadata,
	// which is its name in every container.
	Nodes []string
}

// A Store is a metadata service behind one or several addresses. All methods may
// be called at the same time.
type Store struct{ nodes []*node }

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL:
//
//	rancher://HOST[:PORT][,HOST[:PORT]][/PATH]
func Open(rawurl string) (*Store, error) {
	nodes, err := parseURL(rawurl)
	if err != nil {
		return nil, err
	}
	return New(Config{Nodes: nodes})
}

// parseURL reads a store URL as [Open] takes it.
func parseURL(rawurl string) (nodes []string, err error) {
	u, err := storeaddr.Parse(rawurl)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "rancher":
		return nil, u.Wrong("want rancher://HOST:PORT")
	case u.Login:
		return nil, u.Wrong("the metadata service knows no users: want nothing before the host")
	}
	for _, host := range u.Nodes {
		if _, err := storeaddr.HostPort(host, defaultPort); err != nil {
			return nil, u.Wrong("%w", err)
		}
		nodes = append(nodes, host+"/"+u.Path)
	}
	return nodes, nil
}

// New checks cfg and returns at once: the service is first asked when it is
// watched. An error means that cfg is wrong, never that the service is away.
func New(cfg Config) (*Store, error) {
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = []string{defaultHost}
	}
	s := &Store{}
	var errs []error
	for _, text := range cfg.Nodes {
		all := []string{text}
		if strings.HasPrefix(text, "rancher://") {
			var err error
			all, err = parseURL(text)
			errs = append(errs, err)
		}
		for _, text := range all {
			n, err := newNode(text)
			errs = append(errs, err)
			s.nodes = append(s.nodes, n)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Watch follows the keys under prefixes, as [backends.Store] says. Revisions are
// counted: the versions of the service have no order.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		w := newWatch(s, prefixes)
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel() // before wg.Wait
		wg.Go(func() { w.await(ctx) })
		for c, err := range backends.Poll(ctx, lookEvery, w.wake, w.read) {
			if !yield(c, err) {
				return
			}
		}
	}
}

// WatchTogether is Watch: who may ask is told everything.
func (s *Store) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.Watch(ctx, prefixes)
}

// Read returns every key under prefixes, from the first address that answers. The
// error is of all of them.
func (s *Store) Read(ctx context.Context, prefixes []string) (backends.Change, error) {
	kvs, _, err := newWatch(s, prefixes).read(ctx)
	if err != nil {
		return backends.Change{}, err
	}
	return backends.Diff(nil, kvs), nil
}

// Close closes the connections that are kept for the next question.
func (s *Store) Close() error {
	for _, n := range s.nodes {
		n.transport.CloseIdleConnections()
	}
	return nil
}
