package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"muster/backends"
	"muster/internal/storeaddr"
)

const defaultPort = "8200"

// answerWithin is how long a server may take to answer before it is given up for
// the next one.
const answerWithin = 3 * time.Second

// ParseURL reads a store URL as [Open] takes it. Files are read later, but for a
// password and a secret-id.
func ParseURL(rawurl string) (Config, error) {
	var cfg Config
	u, err := storeaddr.Parse(rawurl, "ca", "cert", "key", "auth", "mount", "interval",
		"token", "password", "role-id", "secret-id", "app-id", "user-id", "jwt")
	if err != nil {
		return cfg, err
	}
	if cfg.TLS = u.Scheme == "vaults"; !cfg.TLS && u.Scheme != "vault" {
		return cfg, u.Wrong("want vault://HOST:PORT or vaults://HOST:PORT")
	}
	cfg.Nodes = u.Nodes
	cfg.Files = storeaddr.TLS{CA: u.Get("ca"), Cert: u.Get("cert"), Key: u.Get("key")}
	switch {
	case u.Path != "":
		return cfg, u.Wrong("path %q: keys are chosen with -prefix, not in the store's URL", "/"+u.Path)
	case cfg.Files != (storeaddr.TLS{}) && !cfg.TLS:
		return cfg, u.Wrong("ca, cert and key are for TLS: want vaults://")
	}
	if text := u.Get("interval"); text != "" {
		if cfg.Interval, err = time.ParseDuration(text); err != nil || cfg.Interval <= 0 {
			return cfg, u.Wrong("interval %q: want a time such as 30s", text)
		}
	}
	if cfg.Auth, err = parseAuth(&u); err != nil {
		return cfg, err
	}
	for _, node := range cfg.Nodes {
		if _, err := storeaddr.HostPort(node, defaultPort); err != nil {
			return cfg, u.Wrong("%w", err)
		}
	}
	return cfg, nil
}

func parseAuth(u *storeaddr.URL) (a Auth, err error) {
	a = Auth{
		Type: u.Get("auth"), Mount: u.Get("mount"), AppID: u.Get("app-id"), UserID: u.Get("user-id"),
		RoleID: u.Get("role-id"), Username: u.User, Password: u.Password,
	}
	if a.Type == "" {
		a.Type = "token"
		if u.Login {
			a.Type = "userpass"
		}
	}
	secret := func(name string) (value string) {
		if err == nil {
			value, err = u.Secret(name)
		}
		return value
	}
	file := func(name string) (path string) {
		if err == nil {
			path, err = u.SecretFile(name)
		}
		return path
	}
	a.Password = cmp.Or(secret("password"), a.Password)
	a.SecretID = secret("secret-id")
	a.TokenFile, a.JWTFile = file("token"), file("jwt")
	if err != nil {
		return a, err
	}
	if wrong := a.check(); wrong != nil {
		return a, u.Wrong("%w", wrong)
	}
	return a, nil
}

// A node is one server.
type node struct {
	addr      string // as errors name it
	client    *api.Client
	transport *http.Transport
}

// node reads one of Nodes.
func (cfg *Config) node(text string) (n *node, err error) {
	scheme, host, ok := strings.Cut(text, "://")
	switch {
	case !ok && cfg.TLS:
		scheme, host = "https", text
	case !ok:
		scheme, host = "http", text
	case scheme != "http" && scheme != "https":
		return nil, fmt.Errorf("node %q: want scheme http or https, or none", storeaddr.Hide(text))
	}
	n = &node{}
	if n.addr, err = storeaddr.HostPort(strings.TrimSuffix(host, "/"), defaultPort); err != nil {
		return nil, err
	}
	secure, err := cfg.Files.Config()
	if err != nil {
		return nil, err
	}
	n.transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure, TLSHandshakeTimeout: answerWithin,
		DialContext: (&net.Dialer{Timeout: answerWithin / 2}).DialContext, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: atOnce, IdleConnTimeout: 30 * time.Second,
	}
	n.client, err = api.NewClient(&api.Config{
		Address: scheme + "://" + n.addr, HttpClient: &http.Client{Transport: n.transport, CheckRedirect: noRedirect},
		CloneHeaders: true,
	})
	return n, err
}

// noRedirect leaves redirects, from a standby to the active server, to the client.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// do asks the servers one after the other until one answers, beginning with the
// one that did last time.
func (s *Store) do(ctx context.Context, ask func(ctx context.Context, c *api.Client) error) error {
	var errs []error
	first := int(s.at.Load())
	for i := range s.nodes {
		at := (first + i) % len(s.nodes)
		n := s.nodes[at]
		err := s.once(ctx, n, ask)
		if err == nil || !elsewhere(err) {
			s.at.Store(int64(at))
		}
		switch {
		case err == nil:
			return nil
		case !elsewhere(err) || ctx.Err() != nil:
			return &Error{n.addr, err}
		}
		errs = append(errs, &Error{n.addr, err})
	}
	return storeaddr.Together(errs...)
}

func (s *Store) once(ctx context.Context, n *node, ask func(ctx context.Context, c *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return ask(ctx, n.client)
}

// elsewhere reports whether another server may do better: this one is away,
// sealed, or without a leader.
func elsewhere(err error) bool {
	said, ok := errors.AsType[*api.ResponseError](err)
	return !ok || said.StatusCode >= 500 || said.StatusCode == http.StatusTooManyRequests
}

// status is the status of an answer that is an error, zero for others.
func status(err error) int {
	if said, ok := errors.AsType[*api.ResponseError](err); ok {
		return said.StatusCode
	}
	return 0
}

// An Error is Vault's, or of the way to it, with the server it came from.
type Error struct {
	Addr string // HOST:PORT
	Err  error
}

func (e *Error) Error() string { return "vault " + e.Addr + ": " + reason(e.Err) }

// Unwrap says too whether others may be read.
func (e *Error) Unwrap() []error {
	if status(e.Err) == http.StatusForbidden {
		return []error{e.Err, backends.ErrDenied}
	}
	return []error{e.Err}
}

// reason is what err says, as a person would.
func reason(err error) string {
	if said, ok := errors.AsType[*api.ResponseError](err); ok {
		words := strings.Join(strings.Fields(strings.Join(said.Errors, "; ")), " ")
		words = strings.TrimPrefix(strings.TrimPrefix(words, "1 error occurred: "), "* ")
		return fmt.Sprintf("%s (status %d)", cmp.Or(words, "an answer without words"), said.StatusCode)
	}
	return storeaddr.Reason(err)
}
