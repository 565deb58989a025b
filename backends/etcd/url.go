package etcd

import (
	"crypto/tls"
	"fmt"
	"strings"

	"muster/internal/storeaddr"
)

const defaultPort = "2379"

// ParseURL reads a store URL as [Open] takes it. Files of TLS are read by New,
// a password's file here.
func ParseURL(rawurl string) (Config, error) {
	secure := strings.HasPrefix(rawurl, "etcds://")
	if !secure && !strings.HasPrefix(rawurl, "etcd://") {
		return Config{}, fmt.Errorf("store %q: want etcd://HOST:PORT or etcds://HOST:PORT", storeaddr.Hide(rawurl))
	}
	u, err := storeaddr.Parse(rawurl, "ca", "cert", "key", "password")
	switch {
	case err != nil:
		return Config{}, err
	case u.Login && u.User == "":
		return Config{}, u.Wrong("want USER:PASSWORD before @, with %%XX for what is special in a URL")
	case u.Path != "":
		return Config{}, u.Wrong("path %q: keys are chosen with -prefix, not in the store's URL", "/"+u.Path)
	}
	for _, node := range u.Nodes {
		if _, err := storeaddr.HostPort(node, defaultPort); err != nil {
			return Config{}, u.Wrong("%w", err)
		}
	}
	if u.Get("password") != "" {
		if u.User == "" || u.Password != "" {
			return Config{}, u.Wrong("parameter password: want USER@ before the host, without a password")
		}
		if u.Password, err = u.Secret("password"); err != nil {
			return Config{}, err
		}
	}
	return Config{
		Nodes: u.Nodes, TLS: secure, CA: u.Get("ca"), Cert: u.Get("cert"), Key: u.Get("key"),
		User: u.User, Password: u.Password,
	}, nil
}

// node reads one of Nodes.
func (cfg *Config) node(node string) (secure bool, addr string, err error) {
	secure = cfg.TLS || cfg.CA != "" || cfg.Cert != ""
	if scheme, rest, ok := strings.Cut(node, "://"); ok {
		switch scheme {
		case "http":
			secure = false
		case "https":
			secure = true
		default:
			return false, "", fmt.Errorf("node %q: want scheme http or https, or none", node)
		}
		node = strings.TrimSuffix(rest, "/")
	}
	addr, err = storeaddr.HostPort(node, defaultPort)
	return secure, addr, err
}

// tls reads the files once, to find out what is wrong with them now.
func (cfg *Config) tls() (*tls.Config, error) {
	conf, err := storeaddr.TLS{CA: cfg.CA, Cert: cfg.Cert, Key: cfg.Key}.Config()
	if err != nil {
		return nil, err
	}
	conf.InsecureSkipVerify = cfg.Insecure
	return conf, nil
}
