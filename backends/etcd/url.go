package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"muster/internal/near"
)

const defaultPort = "2379"

var parameters = []string{"ca", "cert", "key", "password"}

// ParseURL reads a store URL as [Open] takes it. Files of TLS are read by New,
// a password's file here.
func ParseURL(rawurl string) (Config, error) {
	cfg, err := parseURL(rawurl)
	if err != nil {
		return Config{}, fmt.Errorf("store %q: %w", hidePassword(rawurl), err)
	}
	return cfg, nil
}

// parseURL takes rawurl apart by hand: net/url knows no list of hosts.
func parseURL(rawurl string) (Config, error) {
	var cfg Config
	scheme, rest, ok := strings.Cut(rawurl, "://")
	switch {
	case ok && scheme == "etcd":
	case ok && scheme == "etcds":
		cfg.TLS = true
	default:
		return cfg, errors.New("want etcd://HOST:PORT or etcds://HOST:PORT")
	}
	rest, query, _ := strings.Cut(rest, "?")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		rest = rest[at+1:]
		var err error
		if cfg.User, err = url.PathUnescape(user); err == nil {
			cfg.Password, err = url.PathUnescape(password)
		}
		if err != nil || cfg.User == "" {
			return cfg, errors.New("want USER:PASSWORD before @, with %XX for what is special in a URL")
		}
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if path != "" {
		return cfg, fmt.Errorf("path %q: keys are chosen with -prefix, not in the store's URL", "/"+path)
	}
	cfg.Nodes = strings.Split(hosts, ",")
	for _, node := range cfg.Nodes {
		if _, err := hostPort(node); err != nil {
			return cfg, err
		}
	}
	return cfg, cfg.parameters(query)
}

func (cfg *Config) parameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	for name, given := range values {
		if !slices.Contains(parameters, name) {
			hint := ""
			if miss := near.Miss(name, parameters); miss != "" {
				hint = fmt.Sprintf(" (did you mean %s?)", miss)
			}
			return fmt.Errorf("unknown parameter %q%s: want %s", name, hint, strings.Join(parameters, ", "))
		}
		if len(given) > 1 || given[0] == "" {
			return fmt.Errorf("parameter %s: want one value", name)
		}
	}
	cfg.CA, cfg.Cert, cfg.Key = values.Get("ca"), values.Get("cert"), values.Get("key")
	if from := values.Get("password"); from != "" {
		return cfg.readPassword(from)
	}
	return nil
}

func (cfg *Config) readPassword(from string) error {
	file, ok := strings.CutPrefix(from, "file:")
	if !ok {
		return errors.New("parameter password: want file:PATH, as others can read a command line")
	}
	if cfg.User == "" || cfg.Password != "" {
		return errors.New("parameter password: want USER@ before the host, without a password")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if cfg.Password = strings.TrimRight(string(text), "\r\n"); cfg.Password == "" {
		return fmt.Errorf("password file %q is empty", file)
	}
	return nil
}

// hidePassword is rawurl as it may be shown.
func hidePassword(rawurl string) string {
	from := strings.Index(rawurl, "://")
	at := strings.LastIndexByte(rawurl, '@')
	if from < 0 || at < from+3 {
		return rawurl
	}
	user, _, ok := strings.Cut(rawurl[from+3:at], ":")
	if !ok {
		return rawurl
	}
	return rawurl[:from+3] + user + ":…" + rawurl[at:]
}

// hostPort adds the default port to a node and checks it.
func hostPort(node string) (string, error) {
	host, port, err := net.SplitHostPort(node)
	if err != nil {
		// No port, or an IPv6 address that stands alone.
		host, port = node, defaultPort
		if inner, ok := strings.CutPrefix(node, "["); ok {
			host = strings.TrimSuffix(inner, "]")
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	bare := strings.Contains(host, ":") && net.ParseIP(host) == nil
	if host == "" || strings.ContainsAny(host, "/@?#[] \t\r\n,%") || bare || err != nil || n == 0 {
		return "", fmt.Errorf("node %q: want HOST, HOST:PORT or [IPV6]:PORT", node)
	}
	return net.JoinHostPort(host, port), nil
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
	addr, err = hostPort(node)
	return secure, addr, err
}

// tls reads the files once, to find out what is wrong with them now.
func (cfg *Config) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cfg.Insecure}
	if cfg.CA != "" {
		text, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca %q: no certificate in it", cfg.CA)
		}
	}
	if (cfg.Cert == "") != (cfg.Key == "") {
		return nil, errors.New("want a client certificate and its key, or neither")
	}
	if cfg.Cert != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
			return &pair, err
		}
		if _, err := load(nil); err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		conf.GetClientCertificate = load // certificates are renewed
	}
	return conf, nil
}
