package rancher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"muster/backends"
	"muster/internal/storeaddr"
)

const (
	// lookEvery is how often the service is asked for its version, which is a sign
	// of life too. Where it has none, everything is read that often.
	lookEvery = time.Second

	// waitFor is how long the service is asked to wait for another version. It
	// looks at the clock every 5 s only, and the answer has to arrive.
	waitFor    = 10 * time.Second
	waitWithin = waitFor + 5*time.Second + answerWithin

	// attempts is how often several documents are read until they are of one
	// version.
	attempts = 3
)

// A watch is one running Watch.
type watch struct {
	store    *Store
	prefixes []string      // none below another
	wake     chan struct{} // holds one token while there may be news
	at       atomic.Int64  // the node that answered last
	unsure   atomic.Bool   // the version may be old: read

	// Of read, which one goroutine calls.
	version string // of known; empty where the service has none
	known   []backends.KV
}

func newWatch(s *Store, prefixes []string) *watch {
	w := &watch{store: s, wake: make(chan struct{}, 1)}
	for _, p := range prefixes {
		p = strings.TrimRight(p, "/")
		if p == "" || p[0] == '/' { // no key is without a slash in front
			w.prefixes = append(w.prefixes, p)
		}
	}
	w.prefixes = backends.Outermost(w.prefixes)
	w.unsure.Store(true)
	return w
}

// read is for [backends.Poll]: every key under the prefixes, from the first
// address that answers.
func (w *watch) read(ctx context.Context) ([]backends.KV, int64, error) {
	var errs []error
	first := int(w.at.Load())
	for i := range w.store.nodes {
		at := (first + i) % len(w.store.nodes)
		err := w.readFrom(ctx, w.store.nodes[at])
		if err == nil {
			w.at.Store(int64(at))
			return w.known, 0, nil
		}
		w.unsure.Store(true)
		errs = append(errs, err)
	}
	return nil, 0, storeaddr.Together(errs...)
}

// readFrom makes known what is there, if the version is another one.
func (w *watch) readFrom(ctx context.Context, n *node) error {
	unsure := w.unsure.Swap(false)
	before, err := w.versionOf(ctx, n)
	if err != nil {
		return err
	}
	if before != "" && before == w.version && !unsure {
		return nil
	}
	for range attempts {
		kvs, err := w.readAll(ctx, n)
		if err != nil {
			return err
		}
		w.known, w.version = kvs, before
		if len(w.prefixes) < 2 {
			return nil
		}
		// The documents may be of different versions. If they still are at last,
		// the next look at the version reads again.
		after, err := w.versionOf(ctx, n)
		if err != nil || after == before {
			return err
		}
		before = after
	}
	return nil
}

func (w *watch) readAll(ctx context.Context, n *node) (all []backends.KV, err error) {
	for _, prefix := range w.prefixes {
		path := n.base + prefix
		var found []backends.KV
		if path == "" {
			found, err = n.everything(ctx)
		} else {
			found, err = n.document(ctx, path, prefix)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// document reads what lies at path, whose keys begin with prefix. What is not there
// has no keys, but where there is nothing at all the service is not ready, or the
// path wrong.
func (n *node) document(ctx context.Context, path, prefix string) ([]backends.KV, error) {
	body, err := n.get(ctx, readWithin, escape(path))
	switch {
	case errors.Is(err, errNotFound):
		return nil, n.ready(ctx, topOf(path))
	case err != nil:
		return nil, err
	}
	return keys(prefix, body)
}

// ready is an error where there is nothing at all.
func (n *node) ready(ctx context.Context, top string) error {
	_, status, err := n.ask(ctx, readWithin, http.MethodHead, escape(top))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("it has nothing under %q (status %d): want a version of the metadata, such as /latest", top, status)
	}
	if err != nil {
		return &Error{n.addr, err}
	}
	return nil
}

// everything reads the versions of the metadata, each a document.
func (n *node) everything(ctx context.Context) (all []backends.KV, err error) {
	body, err := n.get(ctx, readWithin, "/")
	if err != nil {
		return nil, err
	}
	var versions map[string]any
	if err := json.Unmarshal(body, &versions); err != nil {
		return nil, n.fails("/", err)
	}
	for name := range versions {
		found, err := n.document(ctx, "/"+name, "/"+name)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// topOf is the first element of path, which is a version of the metadata.
func topOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return "/" + name
}

// versionPath is where n says which version of its data it has. One is enough: it
// counts for all forms of the metadata.
func (w *watch) versionPath(n *node) string {
	top := "/latest"
	if len(w.prefixes) > 0 && n.base+w.prefixes[0] != "" {
		top = topOf(n.base + w.prefixes[0])
	}
	return escape(top) + "/version"
}

// versionOf is empty where the service has none.
func (w *watch) versionOf(ctx context.Context, n *node) (string, error) {
	body, err := n.get(ctx, answerWithin, w.versionPath(n))
	if errors.Is(err, errNotFound) {
		return "", nil
	}
	return text(body), err
}

// text is a version as it is asked for.
func text(body []byte) string {
	var s string
	if json.Unmarshal(body, &s) == nil {
		return s
	}
	return string(body)
}

// await asks the service to wait for another version, again and again until ctx
// ends, and wakes read at each answer that may be news. What is wrong is found by
// read.
func (w *watch) await(ctx context.Context) {
	version := ""
	for ctx.Err() == nil {
		n := w.store.nodes[w.at.Load()]
		start := time.Now()
		path := fmt.Sprintf("%s?wait=true&value=%s&maxWait=%d", w.versionPath(n), url.QueryEscape(version), waitFor/time.Second)
		body, err := n.get(ctx, waitWithin, path)
		if err == nil && text(body) != version {
			if version != "" {
				w.news()
			}
			version = text(body)
			continue
		}
		if err != nil && version != "" {
			// A server that was started again may count anew.
			version = ""
			w.news()
		}
		// One that fails, or does not wait at all.
		rest := time.NewTimer(max(0, lookEvery-time.Since(start)))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
}

func (w *watch) news() {
	w.unsure.Store(true)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
