package consul

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"muster/backends"
)

const (
	// maxQueries is how many blocking queries a watch has at most; each is a
	// connection, of which an agent allows 200 for each address. Where prefixes
	// are more, neighbours share one.
	maxQueries = 32

	// waitAtLeast and waitAtMost are how long a blocking query waits for news.
	// When it ends everything is sent again, which shall take a hundredth of the
	// time.
	waitAtLeast = 10 * time.Second
	waitAtMost  = time.Minute
	waitShare   = 100

	// restAtLeast and restAtMost are how long the next query waits after news.
	// Where one key changes a thousand times a second, everything would be sent
	// as often.
	restAtLeast = 10 * time.Millisecond
	restAtMost  = time.Second
)

// A query lists all that begins alike, for the prefixes in it.
type query struct {
	begin    string // as Consul has it: without the slash in front
	prefixes []string
}

// queries are those for prefixes, none within another: what begins with
// /services holds /services.meta too, and both come at one index.
func (s *Store) queries(prefixes []string) []query {
	var all []query
	for _, p := range prefixes {
		begin := p
		if s.matchesElements() {
			begin = strings.TrimRight(p, "/")
		}
		begin, ok := strings.CutPrefix(begin, "/")
		if ok || begin == "" { // no key is without a slash in front
			all = append(all, query{begin, []string{p}})
		}
	}
	slices.SortStableFunc(all, func(a, b query) int { return strings.Compare(a.begin, b.begin) })
	all = nest(all)
	for len(all) > maxQueries {
		best, most := 0, -1
		for i := range len(all) - 1 {
			if n := len(common(all[i].begin, all[i+1].begin)); n > most {
				best, most = i, n
			}
		}
		all[best].begin = common(all[best].begin, all[best+1].begin)
		all = nest(all)
	}
	return all
}

// matchesElements reports whether keys belong to a prefix by elements, so that a
// slash at its end changes nothing.
func (s *Store) matchesElements() bool { return s.match("/a/", "/a") }

// nest puts queries into those that list what they would. They are sorted.
func nest(queries []query) (outer []query) {
	for _, q := range queries {
		if n := len(outer); n > 0 && strings.HasPrefix(q.begin, outer[n-1].begin) {
			outer[n-1].prefixes = append(outer[n-1].prefixes, q.prefixes...)
			continue
		}
		outer = append(outer, q)
	}
	return outer
}

// common is what a and b both begin with.
func common(a, b string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return a[:i]
		}
	}
	return a[:min(len(a), len(b))]
}

// A listing is an answer to a query.
type listing struct {
	query   int
	kvs     []backends.KV
	index   uint64
	leftOut []string // prefixes of which some keys may not be read
	nothing bool     // who has no token is told nothing, not that there is something
}

// A lister asks one query after the other.
type lister struct {
	*node
	store *Store
	query
	opts  *api.QueryOptions
	whole bool          // a key that may not be read is an error, not left out
	took  time.Duration // the last answer that did not wait
}

// follow asks again and again and passes on what it gets, until ctx ends or there
// is an error.
func (l *lister) follow(ctx context.Context, pass func(listing) bool) error {
	var index uint64
	for ctx.Err() == nil {
		found, err := l.list(ctx, index)
		if err != nil {
			return err
		}
		if !pass(found) {
			return nil
		}
		// An index that went back, as when a snapshot is restored, is what to wait for
		// next, as the list is of that moment. Zero would wait for nothing. See
		// https://developer.hashicorp.com/consul/api-docs/features/blocking.
		index = max(found.index, 1)
		rest := time.NewTimer(min(max(l.took, restAtLeast), restAtMost))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
	return nil
}

// list waits until Consul has something newer than index, or for a while; index
// zero waits for nothing.
func (l *lister) list(ctx context.Context, index uint64) (listing, error) {
	wait := min(max(waitShare*l.took, waitAtLeast), waitAtMost)
	wait += rand.N(wait / 8) // so that not all who began together list together
	// Consul adds up to a sixteenth, and the answer has to arrive.
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+waitAtLeast)
	defer cancel()
	opts := l.opts.WithContext(ctx)
	opts.WaitIndex, opts.WaitTime = index, wait
	start := time.Now()
	pairs, meta, err := l.client.KV().List(l.begin, opts)
	if err != nil {
		return listing{}, l.fails(err)
	}
	if index == 0 {
		l.took = time.Since(start)
	}
	found := listing{index: meta.LastIndex, nothing: len(pairs) == 0 && !l.token && meta.DefaultACLPolicy == "deny"}
	for _, p := range pairs {
		if backends.UnderAny(l.store.match, l.prefixes, "/"+p.Key) {
			found.kvs = append(found.kvs, backends.KV{
				Key: path.Join("/", p.Key), Value: string(p.Value),
				Created: int64(p.CreateIndex), Modified: int64(p.ModifyIndex),
			})
		}
	}
	// A key that is a folder too, a and a/, is what the key says.
	slices.SortStableFunc(found.kvs, func(a, b backends.KV) int { return strings.Compare(a.Key, b.Key) })
	found.kvs = slices.CompactFunc(found.kvs, func(a, b backends.KV) bool { return a.Key == b.Key })
	if meta.ResultsFilteredByACLs {
		found.leftOut, err = l.denied(ctx)
	}
	return found, err
}

// denied returns the prefixes of which some keys may not be read. The whole list
// says only that something may not, which may be a neighbour.
func (l *lister) denied(ctx context.Context) (some []string, err error) {
	for _, p := range l.prefixes {
		below := strings.TrimPrefix(p, "/")
		if l.store.matchesElements() && strings.Trim(p, "/") != "" {
			below = strings.Trim(p, "/") + "/"
		}
		keys, meta, err := l.client.KV().Keys(below, "", l.opts.WithContext(ctx))
		switch {
		case err != nil:
			return nil, l.fails(err)
		case !meta.ResultsFilteredByACLs:
		case l.whole || len(keys) == 0:
			return nil, &Error{l.addr, fmt.Errorf("keys under %q may not be read with this token: %w", p, backends.ErrDenied)}
		default:
			some = append(some, p)
		}
	}
	return some, nil
}
