package rancher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"muster/internal/storeaddr"
)

const (
	// answerWithin is how long the service may take to say its version before it
	// is given up for the next address, and readWithin to send a document.
	answerWithin = 1500 * time.Millisecond
	readWithin   = 10 * time.Second
)

// errNotFound is an answer of the service: it has no such path.
var errNotFound = errors.New("not found")

// A node is one address.
type node struct {
	addr      string // HOST:PORT
	base      string // the path below which keys lie: empty, or as /latest
	client    *http.Client
	transport *http.Transport
}

func newNode(text string) (*node, error) {
	rest := strings.TrimPrefix(text, "http://")
	host, path, _ := strings.Cut(rest, "/")
	if scheme, _, ok := strings.Cut(rest, "://"); ok {
		return nil, fmt.Errorf("node %q: scheme %s: the metadata service speaks plain HTTP: want HOST:PORT or http://HOST:PORT", text, scheme)
	}
	addr, err := storeaddr.HostPort(host, defaultPort)
	if err != nil {
		return nil, err
	}
	n := &node{addr: addr}
	if path = strings.Trim(path, "/"); path != "" {
		n.base = "/" + path
	}
	n.transport = &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: answerWithin}).DialContext,
		// One reads while another waits for a change.
		MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
	}
	n.client = &http.Client{Transport: n.transport}
	return n, nil
}

// get asks for a path, which is escaped, as JSON.
func (n *node) get(ctx context.Context, within time.Duration, path string) ([]byte, error) {
	body, status, err := n.ask(ctx, within, http.MethodGet, path)
	switch {
	case err != nil:
		return nil, &Error{n.addr, err}
	case status == http.StatusNotFound:
		return nil, errNotFound
	case status != http.StatusOK:
		return nil, n.fails(path, fmt.Errorf("%s (status %d)", cmp.Or(first(body), "an answer without words"), status))
	case !json.Valid(body):
		return nil, n.fails(path, fmt.Errorf("want JSON, got %q: is this the metadata service?", first(body)))
	}
	return body, nil
}

func (n *node) ask(ctx context.Context, within time.Duration, method, path string) (body []byte, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.addr+path, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := n.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return body, resp.StatusCode, err
}

// fails is err with the node and the path it was asked for.
func (n *node) fails(path string, err error) error {
	return &Error{n.addr, fmt.Errorf("GET %s: %w", path, err)}
}

// escape is path as the service reads it, its slashes as they are: it takes a plus
// for a space.
func escape(path string) string {
	elements := strings.Split(path, "/")
	for i, e := range elements {
		elements[i] = url.QueryEscape(e)
	}
	return strings.Join(elements, "/")
}

// first is the first line of a text, or what of it is enough to recognize it.
func first(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if len(line) > 80 {
		line = strings.ToValidUTF8(line[:80], "") + "…"
	}
	return line
}

// An Error is of the service, or of the way to it, with the address it came from.
type Error struct {
	Addr string // HOST:PORT
	Err  error
}

func (e *Error) Unwrap() error { return e.Err }

// Error says always the same for the same thing: without the port that the
// connection had here.
func (e *Error) Error() string {
	err := e.Err
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op != "dial" {
		err = op.Err
	}
	return "rancher " + e.Addr + ": " + storeaddr.Reason(err)
}
