package redis

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"muster/internal/storeaddr"
)

const (
	defaultPort  = "6379"
	sentinelPort = "26379"
)

var parameters = []string{"ca", "cert", "key", "password", "separator", "sentinel", "sentinel-password"}

// ParseURL reads a store URL as [Open] takes it. Files of TLS are read by New,
// those of passwords here.
func ParseURL(rawurl string) (Config, error) {
	var cfg Config
	u, err := storeaddr.Parse(rawurl, parameters...)
	if err != nil {
		return cfg, err
	}
	if cfg.TLS = u.Scheme == "rediss"; !cfg.TLS && u.Scheme != "redis" {
		return cfg, u.Wrong("want redis://HOST:PORT or rediss://HOST:PORT")
	}
	cfg.Nodes, cfg.User, cfg.Password = u.Nodes, u.User, u.Password
	if cfg.DB, err = database(u.Path); err != nil {
		return cfg, u.Wrong("%w", err)
	}
	cfg.Files = storeaddr.TLS{CA: u.Get("ca"), Cert: u.Get("cert"), Key: u.Get("key")}
	if cfg.Files != (storeaddr.TLS{}) && !cfg.TLS {
		return cfg, u.Wrong("ca, cert and key are for TLS: want rediss://")
	}
	cfg.Separator, cfg.Sentinel = u.Get("separator"), u.Get("sentinel")
	secret, err := u.Secret("password")
	switch {
	case err != nil:
		return cfg, err
	case secret != "" && cfg.Password != "":
		return cfg, u.Wrong("two passwords: want one, before @ or in a file")
	case secret != "":
		cfg.Password = secret
	case cfg.User != "" && cfg.Password == "":
		return cfg, u.Wrong("a user without a password: want USER:PASSWORD@, :PASSWORD@ or password=file:PATH")
	}
	if cfg.SentinelPassword, err = u.Secret("sentinel-password"); err != nil {
		return cfg, err
	}
	if cfg.SentinelPassword != "" && cfg.Sentinel == "" {
		return cfg, u.Wrong("sentinel-password without sentinel, the name of the master")
	}
	for _, text := range cfg.Nodes {
		if _, err := storeaddr.HostPort(text, defaultPort); err != nil {
			return cfg, u.Wrong("%w", err)
		}
	}
	return cfg, nil
}

func database(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	db, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("database %q: want a number, as Redis's databases have", text)
	}
	return int(db), nil
}

// nodes reads one of Nodes; a URL may be several.
func (cfg *Config) nodes(text string) ([]node, error) {
	n := node{
		network: "tcp", db: cfg.DB, user: cfg.User, password: cfg.Password,
		master: cfg.Sentinel, sentinelPassword: cfg.SentinelPassword,
	}
	if strings.Contains(text, "://") {
		return cfg.urlNodes(text)
	}
	if isSocket(text) {
		n.network, n.addr = "unix", text
		return []node{n}, nil
	}
	host, db, ok := strings.Cut(text, "/")
	var err error
	if ok {
		n.db, err = database(db)
	}
	if cfg.TLS {
		n.secure, n.files = true, cfg.Files
	}
	port := defaultPort
	if n.master != "" {
		port = sentinelPort
	}
	addr, wrong := storeaddr.HostPort(host, port)
	n.addr = addr
	return []node{n}, errors.Join(err, wrong)
}

func (cfg *Config) urlNodes(rawurl string) (all []node, err error) {
	c, err := ParseURL(rawurl)
	if err != nil {
		return nil, err
	}
	if c.Separator != "" && c.Separator != cfg.Separator {
		return nil, errors.New("a separator in a node: want it where the store is configured")
	}
	if c.Files == (storeaddr.TLS{}) {
		c.Files = cfg.Files
	}
	for _, text := range c.Nodes {
		n, err := c.nodes(text)
		if err != nil {
			return nil, err
		}
		all = append(all, n...)
	}
	return all, nil
}

// isSocket reports whether a node is a path: a bare host has no slash in front,
// and no file of its name is a socket.
func isSocket(text string) bool {
	if strings.HasPrefix(text, "/") {
		return true
	}
	info, err := os.Stat(text)
	return err == nil && info.Mode().Type() == os.ModeSocket
}
