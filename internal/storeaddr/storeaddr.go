// Package storeaddr reads how to get to a store: its URL, its nodes and the
// files of TLS.
//
//	SCHEME://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/PATH][?NAME=VALUE&…]
package storeaddr

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"muster/internal/near"
)

// A URL is the address of a store, taken apart. Nodes are as they were written;
// see [HostPort].
type URL struct {
	Scheme         string
	Login          bool // there is an @, with whatever before it
	User, Password string
	Nodes          []string
	Path           string // without its first slash
	shown          string
	values         url.Values
}

// Parse takes rawurl apart by hand: net/url knows no list of hosts. known are
// the parameters that it may have, each once and with a value. The error hides
// the password.
func Parse(rawurl string, known ...string) (URL, error) {
	u := URL{shown: Hide(rawurl)}
	scheme, rest, ok := strings.Cut(rawurl, "://")
	if !ok {
		return u, u.Wrong("want SCHEME://HOST:PORT")
	}
	u.Scheme = scheme
	rest, query, _ := strings.Cut(rest, "?")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		rest = rest[at+1:]
		u.Login = true
		var err error
		if u.User, err = url.PathUnescape(user); err == nil {
			u.Password, err = url.PathUnescape(password)
		}
		if err != nil {
			return u, u.Wrong("want USER:PASSWORD before @, with %%XX for what is special in a URL")
		}
	}
	var hosts string
	hosts, u.Path, _ = strings.Cut(rest, "/")
	u.Nodes = strings.Split(hosts, ",")
	return u, u.parameters(query, known)
}

// ParsePath is [Parse] for a store that has no host: SCHEME:[PATH][?NAME=VALUE&…].
func ParsePath(rawurl string, known ...string) (URL, error) {
	u := URL{shown: rawurl}
	rest, query, _ := strings.Cut(rawurl, "?")
	u.Scheme, u.Path, _ = strings.Cut(rest, ":")
	return u, u.parameters(query, known)
}

func (u *URL) parameters(query string, known []string) (err error) {
	if u.values, err = url.ParseQuery(query); err != nil {
		return u.Wrong("%w", err)
	}
	for name, given := range u.values {
		if !slices.Contains(known, name) {
			hint := ""
			if miss := near.Miss(name, known); miss != "" {
				hint = fmt.Sprintf(" (did you mean %s?)", miss)
			}
			return u.Wrong("unknown parameter %q%s: want %s", name, hint, strings.Join(known, ", "))
		}
		if len(given) > 1 || given[0] == "" {
			return u.Wrong("parameter %s: want one value", name)
		}
	}
	return nil
}

// Get returns a parameter, "" where it was not given.
func (u *URL) Get(name string) string { return u.values.Get(name) }

// Secret reads a parameter of the form file:PATH; a line's end behind it is not
// part of the secret. It is "" where it was not given.
func (u *URL) Secret(name string) (string, error) {
	file, err := u.SecretFile(name)
	if err != nil || file == "" {
		return "", err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", u.Wrong("%w", err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", u.Wrong("password file %q is empty", file)
	}
	return secret, nil
}

// SecretFile is the PATH of a parameter of the form file:PATH, for who reads it
// again and again. It is "" where it was not given.
func (u *URL) SecretFile(name string) (string, error) {
	from := u.Get(name)
	file, ok := strings.CutPrefix(from, "file:")
	if from != "" && (!ok || file == "") {
		return "", u.Wrong("parameter %s: want file:PATH, as others can read a command line", name)
	}
	return file, nil
}

// Wrong is an error about u.
func (u *URL) Wrong(format string, args ...any) error {
	return fmt.Errorf("store %q: %w", u.shown, fmt.Errorf(format, args...))
}

// Hide is rawurl as it may be shown: without its password, and without those that
// somebody wrote into a parameter.
func Hide(rawurl string) string {
	rawurl = hideParameters(rawurl)
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

func hideParameters(rawurl string) string {
	base, query, ok := strings.Cut(rawurl, "?")
	if !ok {
		return rawurl
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		secret := strings.HasSuffix(name, "password") || strings.HasSuffix(name, "token") || strings.HasPrefix(name, "secret")
		if secret && !strings.HasPrefix(value, "file:") {
			pairs[i] = name + "=…"
		}
	}
	return base + "?" + strings.Join(pairs, "&")
}

// HostPort adds the default port to a node, HOST, HOST:PORT or [IPV6]:PORT, and
// checks it.
func HostPort(node, defaultPort string) (string, error) {
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

// Together is several errors in one line, nil for none.
func Together(errs ...error) error {
	if errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil }); len(errs) == 0 {
		return nil
	}
	return severalErrors(errs)
}

type severalErrors []error

func (e severalErrors) Unwrap() []error { return e }

func (e severalErrors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}
