// Package docker is a store without a server: the labelled containers of a Docker
// engine as the keys that a sidekick beside each of them would write.
//
//	/services/web/node7:web1:8080        172.17.0.2:8080
//	/services.meta/web/node7:web1:8080   {"v":1,"addr":"172.17.0.2:8080",…}
//
// It is the one store that knows what its keys mean. Which container announces
// what is said by package internal/docker.
package docker

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"muster/backends"
	"muster/catalog"
	"muster/internal/docker"
)

// A Store is the containers of one engine.
type Store struct {
	cfg    docker.Config
	prefix string
}

var _ backends.Together = (*Store)(nil)

// Open opens the engine that rawurl names. getenv has DOCKER_HOST, HOST_IP, and
// what Docker's own client is told of TLS: DOCKER_CERT_PATH, DOCKER_TLS_VERIFY,
// DOCKER_CONFIG and HOME. log may be nil.
//
//	docker:                      that of DOCKER_HOST, or /var/run/docker.sock
//	docker:/PATH                 a socket
//	docker://HOST:PORT           TCP, with TLS where DOCKER_CERT_PATH is a folder, or
//	                             DOCKER_TLS_VERIFY is set: in DOCKER_CONFIG or ~/.docker
//	unix:///PATH, tcp://…        the same, as Docker's own client has it
//	?network=NAME                containers at their own addresses on that network
//	?host=ADDRESS                where published ports are reached; 127.0.0.1
//	?prefix=KEY                  of the keys; /services
func Open(rawurl string, getenv func(string) string, log *slog.Logger) (*Store, error) {
	s := &Store{prefix: catalog.DefaultPrefix}
	rest, query, _ := strings.Cut(strings.TrimPrefix(rawurl, "docker:"), "?")
	c := &s.cfg
	c.Log = log
	c.Host, c.HostIP = getenv("DOCKER_HOST"), getenv("HOST_IP")
	switch {
	case strings.HasPrefix(rest, "unix://"), strings.HasPrefix(rest, "tcp://"):
		c.Host = rest
	case rest == "":
	case strings.HasPrefix(rest, "///"):
		c.Host = "unix://" + rest[2:]
	case strings.HasPrefix(rest, "//"):
		c.Host = "tcp:" + rest
	case strings.HasPrefix(rest, "/"):
		c.Host = "unix://" + rest
	default:
		return nil, fmt.Errorf("store %q: want docker:, docker:/PATH of a socket, or docker://HOST:PORT", rawurl)
	}
	if strings.HasPrefix(c.Host, "tcp:") {
		c.Certs = certs(getenv)
	}
	options, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", rawurl, err)
	}
	for name, values := range options {
		value := values[len(values)-1]
		switch name {
		case "network":
			c.Network = value
		case "host":
			c.HostIP = value
		case "prefix":
			s.prefix = path.Clean("/" + value)
		default:
			return nil, fmt.Errorf("store %q: unknown parameter %q: want network, host or prefix", rawurl, name)
		}
	}
	if s.prefix == "/" {
		return nil, fmt.Errorf("store %q: prefix: want a path such as /services", rawurl)
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("store %q: %w", rawurl, err)
	}
	return s, nil
}

// certs is the folder of the certificates for TCP, where Docker's own client looks
// for it. Empty means that there shall be no TLS.
func certs(getenv func(string) string) string {
	folder := getenv("DOCKER_CERT_PATH")
	if folder == "" && getenv("DOCKER_TLS_VERIFY") != "" {
		folder = cmp.Or(getenv("DOCKER_CONFIG"), filepath.Join(getenv("HOME"), ".docker"))
	}
	return folder
}

// Watch yields the keys under prefixes. While the engine is away what was known
// stays; when it is back everything is read again.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		f := docker.Follow(ctx, s.cfg)
		defer f.Close()
		read := func(ctx context.Context) ([]backends.KV, int64, error) {
			apps, err := f.Apps(ctx)
			return s.keys(apps, prefixes), 0, err
		}
		for c, err := range backends.Poll(ctx, 0, f.Changed, read) {
			if !yield(c, err) {
				return
			}
		}
	}
}

// WatchTogether is Watch: the engine shows all or nothing.
func (s *Store) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.Watch(ctx, prefixes)
}

// Read returns every key under prefixes.
func (s *Store) Read(ctx context.Context, prefixes []string) (backends.Change, error) {
	for c, err := range s.Watch(ctx, prefixes) {
		return c, err
	}
	return backends.Change{}, ctx.Err()
}

// Close does nothing: a Store holds something only while it is watched.
func (s *Store) Close() error { return nil }

// keys are those of apps that are under prefixes. What starts or drains has
// metadata only.
func (s *Store) keys(apps []docker.App, prefixes []string) (kvs []backends.KV) {
	add := func(key, value string) {
		if backends.UnderAny(nil, prefixes, key) {
			kvs = append(kvs, backends.KV{Key: key, Value: value})
		}
	}
	for _, a := range apps {
		at := "/" + a.Service + "/" + a.ID
		if a.State == catalog.Up {
			add(s.prefix+at, a.Addr)
		}
		add(s.prefix+".meta"+at, a.Metadata())
	}
	return kvs
}
