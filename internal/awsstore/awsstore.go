// Package awsstore is what the stores of AWS have in common. An [Access] finds
// region, credentials and endpoint as the SDK does, again when they were refused,
// and turns the SDK's errors into ours; [Polled] reads a store again and again, for
// none of them tells of changes.
//
//	store.Watch ──every interval──> Polled ──> the store's keys() ──> Access.Do ──> SDK client
package awsstore

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"muster/backends"
	"muster/internal/storeaddr"
)

// DefaultInterval is the time from one read of a watch to the next. Each read is
// paid for, and counts against the limits of the account.
const DefaultInterval = 10 * time.Second

// Config is how a service of AWS is reached. Its zero value is what the SDK finds
// by itself: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the like, the
// shared config files, the role of the container or the instance.
type Config struct {
	Region   string
	Profile  string // of the shared config files
	Endpoint string // URL of the service
	Interval time.Duration

	// Log is told what of the keys can't be used; nil means nobody.
	Log *slog.Logger
}

var parameters = []string{"region", "profile", "endpoint", "interval"}

// ParseURL reads SCHEME:[PATH][?region=R&profile=P&endpoint=URL&interval=10s], and
// the parameters of more, which are the store's own.
func ParseURL(rawurl, scheme string, more ...string) (Config, storeaddr.URL, error) {
	u, err := storeaddr.ParsePath(rawurl, append(slices.Clone(parameters), more...)...)
	if err != nil {
		return Config{}, u, err
	}
	if u.Scheme != scheme || strings.HasPrefix(u.Path, "//") {
		return Config{}, u, u.Wrong("want %s:, without a host: region, credentials and endpoint are found as AWS's own tools do", scheme)
	}
	c := Config{Region: u.Get("region"), Profile: u.Get("profile"), Endpoint: u.Get("endpoint")}
	if text := u.Get("interval"); text != "" {
		if c.Interval, err = time.ParseDuration(text); err != nil || c.Interval <= 0 {
			return Config{}, u, u.Wrong("interval %q: want a time such as 30s", text)
		}
	}
	return c, u, nil
}

// logger is c.Log, or nobody's.
func (c *Config) logger() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// Polled makes a [backends.Together] of a function that reads.
type Polled struct {
	// Interval is that of a watch; zero means [DefaultInterval].
	Interval time.Duration

	// Keys returns every key under prefixes. Where whole is false it may leave out
	// what the user may not read; else that is [backends.ErrDenied].
	Keys func(ctx context.Context, prefixes []string, whole bool) ([]backends.KV, error)
}

// Watch follows the keys under prefixes by reading them, as [backends.Poll] does.
func (p *Polled) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return p.poll(ctx, prefixes, false)
}

// WatchTogether is Watch, but leaves out nothing that may not be read.
func (p *Polled) WatchTogether(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return p.poll(ctx, prefixes, true)
}

// Read returns every key under prefixes.
func (p *Polled) Read(ctx context.Context, prefixes []string) (backends.Change, error) {
	for c, err := range p.poll(ctx, prefixes, true) {
		return c, err
	}
	return backends.Change{}, ctx.Err()
}

func (p *Polled) poll(ctx context.Context, prefixes []string, whole bool) iter.Seq2[backends.Change, error] {
	interval := p.Interval
	if interval == 0 {
		interval = DefaultInterval
	}
	return backends.Poll(ctx, interval, nil, func(ctx context.Context) ([]backends.KV, int64, error) {
		kvs, err := p.Keys(ctx, prefixes, whole)
		return kvs, 0, err
	})
}
