// Package docker reads the labelled containers of a Docker engine as
// announcements: what a sidekick would say of each of them, without one.
//
// There are two steps. A [Follower] keeps up with the engine: it subscribes to
// the engine's events, lists what runs, inspects what changed, and does all of
// that again after each break. And what inspect says of a container, its labels
// or registrator's environment, becomes one [App] for each port it announces:
//
//	engine ──events, inspect──> Follower ──[]App──> backends/docker, sidekick -docker
//
// Only containers that run, are not paused, do not wait for a restart and, where
// they have a HEALTHCHECK, are not unhealthy, announce anything.
package docker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
)

// DefaultHost is the socket of an engine that was installed as usual.
const DefaultHost = "unix:///var/run/docker.sock"

// Config says where the engine is and where its containers are reached.
type Config struct {
	// Host is the engine: unix:///PATH or tcp://HOST:PORT, [DefaultHost] where
	// empty.
	Host string

	// Certs is a folder with ca.pem, cert.pem and key.pem, for tcp with TLS.
	// Empty means without.
	Certs string

	// HostIP is the address of the engine's machine, where ports are reached that
	// are published on all of its addresses. Empty means 127.0.0.1, or the HOST of
	// tcp://HOST:PORT.
	HostIP string

	// Network is the network on which containers are reached at their own
	// addresses. Empty means where their ports are published, or else on the only
	// network they have.
	Network string

	// Remote says that those who read the announcements are on other machines.
	// They reach neither a loopback address nor a network that is the engine's own
	// affair, so Network has to be asked for.
	Remote bool

	Log *slog.Logger // nil: no log
}

func (c Config) withDefaults() Config {
	c.Host = cmp.Or(c.Host, DefaultHost)
	if c.HostIP == "" {
		c.HostIP = "127.0.0.1"
		if u, err := url.Parse(c.Host); err == nil && u.Scheme == "tcp" && u.Hostname() != "" {
			c.HostIP = u.Hostname()
		}
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// Check reports what is wrong with c. It does not look whether the engine is
// there.
func (c Config) Check() error {
	c = c.withDefaults()
	u, err := url.Parse(c.Host)
	switch {
	case err == nil && u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
		if c.Certs != "" {
			return errors.New("certificates are for tcp://HOST:PORT, not for a socket")
		}
	case err == nil && u.Scheme == "tcp" && u.Hostname() != "" && u.Port() != "" && u.Path == "":
	default:
		return fmt.Errorf("docker host %q: want unix:///PATH or tcp://HOST:PORT", c.Host)
	}
	if strings.ContainsAny(c.HostIP, " /") || strings.Contains(c.HostIP, ":") && net.ParseIP(c.HostIP) == nil {
		return fmt.Errorf("host address %q: want an address of the engine's machine, without a port", c.HostIP)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	return client.Close()
}

// client is for one connection to the engine: it asks for the version of the
// API once, and the next engine may be another one.
func (c Config) client() (*client.Client, error) {
	options := []client.Opt{client.WithHost(c.Host)}
	if c.Certs != "" {
		file := func(name string) string { return filepath.Join(c.Certs, name) }
		options = append(options, client.WithTLSClientConfig(file("ca.pem"), file("cert.pem"), file("key.pem")))
	}
	return client.New(options...)
}
