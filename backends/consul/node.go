package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"

	"muster/backends"
	"muster/internal/storeaddr"
)

const defaultPort = "8500"

// answerWithin is how long an agent may take to answer before it is given up for
// the next one.
const answerWithin = 1500 * time.Millisecond

// ParseURL reads a store URL as [Open] takes it. Files are read later.
func ParseURL(rawurl string) (Config, error) {
	var cfg Config
	u, err := storeaddr.Parse(rawurl, "ca", "cert", "key", "dc", "password", "token")
	if err != nil {
		return cfg, err
	}
	if cfg.TLS = u.Scheme == "consuls"; !cfg.TLS && u.Scheme != "consul" {
		return cfg, u.Wrong("want consul://HOST:PORT or consuls://HOST:PORT")
	}
	cfg.Nodes, cfg.User, cfg.Password, cfg.Datacenter = u.Nodes, u.User, u.Password, u.Get("dc")
	cfg.Files = storeaddr.TLS{CA: u.Get("ca"), Cert: u.Get("cert"), Key: u.Get("key")}
	secret, err := u.Secret("password")
	switch {
	case err != nil:
		return cfg, err
	case u.Path != "":
		return cfg, u.Wrong("path %q: keys are chosen with -prefix, not in the store's URL", "/"+u.Path)
	case cfg.Files != (storeaddr.TLS{}) && !cfg.TLS:
		return cfg, u.Wrong("ca, cert and key are for TLS: want consuls://")
	case secret != "" && (u.User == "" || u.Password != ""):
		return cfg, u.Wrong("parameter password: want USER@ before the host, without a password")
	case secret != "":
		cfg.Password = secret
	}
	if cfg.Password == "" == (cfg.User != "") || u.Login && cfg.User == "" {
		return cfg, u.Wrong("want USER:PASSWORD before @, or USER and password=file:PATH")
	}
	if cfg.TokenFile, err = u.SecretFile("token"); err != nil {
		return cfg, err
	}
	for _, node := range cfg.Nodes {
		if _, err := storeaddr.HostPort(node, defaultPort); err != nil {
			return cfg, u.Wrong("%w", err)
		}
	}
	return cfg, nil
}

// A node is one agent.
type node struct {
	addr      string // as errors name it
	scheme    string
	client    *api.Client
	transport *http.Transport
	tokenFile string // empty: the client knows its token
	token     bool   // there is one
	unproven  bool   // TLS without a client's certificate
	dc        string
}

// nodes reads one of Nodes; a URL of ours may be several.
func (cfg *Config) nodes(text string) (all []*node, err error) {
	if !strings.HasPrefix(text, "consul://") && !strings.HasPrefix(text, "consuls://") {
		n, err := cfg.node(text)
		return []*node{n}, err
	}
	c, err := ParseURL(text)
	if err != nil {
		return nil, err
	}
	if c.Files == (storeaddr.TLS{}) {
		c.Files = cfg.Files
	}
	for _, text := range c.Nodes {
		n, err := c.node(text)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

func (cfg *Config) node(text string) (*node, error) {
	conf := api.DefaultConfig()
	n := &node{dc: cfg.Datacenter, tokenFile: cmp.Or(cfg.TokenFile, conf.TokenFile)}
	conf.TokenFile = ""
	conf.Scheme = "http"
	if cfg.TLS {
		conf.Scheme = "https"
	}
	scheme, rest, ok := strings.Cut(text, "://")
	network := "tcp"
	var err error
	switch {
	case ok && scheme == "unix":
		if rest == "" {
			return nil, fmt.Errorf("node %q: want unix:///PATH", text)
		}
		network, n.addr, conf.Address = "unix", rest, "localhost"
	case ok && scheme != "http" && scheme != "https":
		return nil, fmt.Errorf("node %q: want scheme http, https or unix, or none", text)
	default:
		if !ok {
			rest = text
		}
		if scheme == "https" && ok {
			conf.Scheme = scheme
		}
		host, path, _ := strings.Cut(rest, "/")
		if path = strings.TrimRight(path, "/"); path != "" {
			conf.PathPrefix = "/" + path
		}
		if n.addr, err = storeaddr.HostPort(host, defaultPort); err != nil {
			return nil, err
		}
		conf.Address = n.addr
	}
	n.scheme = conf.Scheme
	if n.transport, err = cfg.transport(network, n.addr, conf.TLSConfig); err != nil {
		return nil, err
	}
	n.unproven = conf.Scheme == "https" && n.transport.TLSClientConfig.GetClientCertificate == nil
	conf.HttpClient = &http.Client{Transport: n.transport}
	if cfg.User != "" {
		conf.HttpAuth = &api.HttpBasicAuth{Username: cfg.User, Password: cfg.Password}
	}
	n.token = n.tokenFile != "" || conf.Token != ""
	n.client, err = api.NewClient(conf)
	return n, err
}

// transport makes the connections to one agent. What fromEnv says counts where
// cfg says nothing.
func (cfg *Config) transport(network, addr string, fromEnv api.TLSConfig) (*http.Transport, error) {
	files := cfg.Files
	if files.CA == "" {
		files.CA = fromEnv.CAFile
	}
	if files.Cert == "" && files.Key == "" {
		files.Cert, files.Key = fromEnv.CertFile, fromEnv.KeyFile
	}
	secure, err := files.Config()
	if err != nil {
		return nil, err
	}
	if files.CA == "" && fromEnv.CAPath != "" {
		folder, err := api.SetupTLSConfig(&api.TLSConfig{CAPath: fromEnv.CAPath})
		if err != nil {
			return nil, err
		}
		secure.RootCAs = folder.RootCAs
	}
	secure.ServerName, secure.InsecureSkipVerify = fromEnv.Address, fromEnv.InsecureSkipVerify
	// A blocking query may wait for a minute on a connection that is dead.
	dialer := &net.Dialer{
		Timeout:         answerWithin,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure, TLSHandshakeTimeout: 2 * answerWithin,
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: maxQueries + 1,
		IdleConnTimeout: 30 * time.Second,
	}
	if network == "unix" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", addr)
		}
	}
	return t, nil
}

// options are what every question says.
func (n *node) options(ctx context.Context) (*api.QueryOptions, error) {
	opts := &api.QueryOptions{Datacenter: n.dc}
	if n.tokenFile != "" {
		text, err := os.ReadFile(n.tokenFile)
		if err != nil {
			return nil, err
		}
		if opts.Token = strings.TrimSpace(string(text)); opts.Token == "" {
			return nil, fmt.Errorf("token file %q is empty", n.tokenFile)
		}
	}
	return opts.WithContext(ctx), nil
}

// ask asks for the cluster's leader: without one no question about keys is
// answered.
func (n *node) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	leader, err := n.client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err == nil && leader == "" {
		err = errors.New("no cluster leader")
	}
	return err
}

// fails is err with the agent it came from.
func (n *node) fails(err error) error {
	if n.unproven && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "conn could not be established")) {
		// TLS 1.3 refuses after the handshake, and its alert may get lost.
		err = fmt.Errorf("%s (it may want a client certificate)", reason(err))
	}
	return &Error{n.addr, err}
}

// An Error is Consul's, or of the way to it, with the agent it came from.
type Error struct {
	Addr string // HOST:PORT, or the path of a socket
	Err  error
}

func (e *Error) Error() string { return "consul " + e.Addr + ": " + reason(e.Err) }

// Unwrap says too whether others may be read.
func (e *Error) Unwrap() []error {
	if said, ok := errors.AsType[api.StatusError](e.Err); ok && said.Code == http.StatusForbidden && strings.Contains(said.Body, "Permission denied") {
		return []error{e.Err, backends.ErrDenied}
	}
	return []error{e.Err}
}

// reason is what err says, as a person would.
func reason(err error) string {
	if said, ok := errors.AsType[api.StatusError](err); ok {
		return fmt.Sprintf("%s (status %d)", cmp.Or(said.Body, "an answer without words"), said.Code)
	}
	return storeaddr.Reason(err)
}
