// Package secretsmanager reads keys from AWS Secrets Manager: a secret's name,
// with a slash in front, is the key. One whose text is a JSON object is a level,
// its fields are the keys below it.
//
//	api/token = abc                       /api/token = abc
//	db = {"user": "web", "port": 5432}    /db/user = web, /db/port = 5432
//
// A read lists the secrets that begin like a prefix, and gets the values of those
// whose version is not the one that is known (values.go): a list is one request
// for up to a hundred secrets, a value one for itself. Who may not list gets the
// secrets that prefixes name, and those above them.
package secretsmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"muster/backends"
	"muster/internal/awsstore"
)

// Config says what of a secret is read.
type Config struct {
	awsstore.Config

	// Stage is the label of the version to read. Empty means AWSCURRENT.
	Stage string

	// Whole leaves JSON as it is.
	Whole bool
}

// A Store is the secrets of an account in a region. All methods may be called at
// the same time.
type Store struct {
	awsstore.Polled
	access *awsstore.Access[*client]
	stage  string
	whole  bool

	mu    sync.Mutex // guards what follows
	known map[string]value
	told  map[string]bool // what was logged
}

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL; log may be nil:
//
//	secretsmanager:[?stage=AWSPREVIOUS&flatten=no&region=R&profile=P&endpoint=URL&interval=10s]
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, u, err := awsstore.ParseURL(rawurl, "secretsmanager", "stage", "flatten")
	if err != nil {
		return nil, err
	}
	flatten := u.Get("flatten")
	switch {
	case u.Path != "":
		return nil, u.Wrong("want secretsmanager: alone; which keys are read is said by -prefix")
	case flatten != "" && flatten != "yes" && flatten != "no":
		return nil, u.Wrong("flatten %q: want yes or no", flatten)
	}
	cfg.Log = log
	return New(Config{Config: cfg, Stage: u.Get("stage"), Whole: flatten == "no"}), nil
}

// New asks nobody anything yet.
func New(cfg Config) *Store {
	s := &Store{stage: cfg.Stage, whole: cfg.Whole, known: make(map[string]value), told: make(map[string]bool)}
	if s.stage == "" {
		s.stage = "AWSCURRENT"
	}
	s.access = awsstore.NewAccess("secretsmanager", cfg.Config, newClient)
	s.Polled = awsstore.Polled{Interval: cfg.Interval, Keys: s.keys}
	return s
}

// Reach finds out whether there are region and credentials.
func (s *Store) Reach(ctx context.Context) error { return s.access.Reach(ctx) }

// Close ends the connections. No Watch may be running.
func (s *Store) Close() error {
	s.access.Close()
	return nil
}

func (s *Store) keys(ctx context.Context, prefixes []string, whole bool) (kvs []backends.KV, err error) {
	prefixes = backends.Outermost(prefixes)
	err = s.access.Do(ctx, func(ctx context.Context, c *client) error {
		r := reading{store: s, client: c, whole: whole, known: make(map[string]value)}
		found, err := r.listed(ctx, prefixes)
		if err != nil {
			return err
		}
		for _, p := range prefixes {
			if !slices.ContainsFunc(found, func(kv backends.KV) bool { return backends.Under(p, kv.Key) }) {
				above, err := r.named(ctx, strings.TrimRight(p, "/"))
				if err != nil {
					return err
				}
				found = append(found, above...)
			}
		}
		kvs = found
		s.keep(prefixes, r.known)
		return nil
	})
	return kvs, err
}

// A reading is one read of everything.
type reading struct {
	store     *Store
	client    *client
	whole     bool             // leave out nothing that may not be read
	known     map[string]value // by ARN, those that were listed
	couldList bool
}

// listed reads the secrets under prefixes that a list has. Where one may not be
// read it is left out, but not where a prefix names it.
func (r *reading) listed(ctx context.Context, prefixes []string) (kvs []backends.KV, err error) {
	secrets, err := r.list(ctx, prefixes)
	if awsstore.Denied(err) {
		r.store.tell("list", "secretsmanager: ListSecrets is not allowed, so only the secrets that keys name are read")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r.couldList = true
	// Of two that give one key the one with the longer name wins.
	slices.SortStableFunc(secrets, func(a, b types.SecretListEntry) int { return len(aws.ToString(b.Name)) - len(aws.ToString(a.Name)) })
	for _, entry := range secrets {
		key := "/" + strings.TrimPrefix(aws.ToString(entry.Name), "/")
		if !backends.UnderAny(nil, prefixes, key) {
			continue
		}
		v, err := r.value(ctx, entry)
		switch {
		case awsstore.Denied(err) && !r.whole && !slices.ContainsFunc(prefixes, func(p string) bool { return backends.Under(key, p) }):
			r.store.tell(key, fmt.Sprintf("secretsmanager: secret %q may not be read and is left out", aws.ToString(entry.Name)))
			continue
		case err != nil:
			return nil, err
		}
		kvs = append(kvs, v.keys(key, r.store.whole)...)
	}
	return kvs, nil
}

// list returns the secrets that begin like prefixes, to the last page.
func (r *reading) list(ctx context.Context, prefixes []string) (secrets []types.SecretListEntry, err error) {
	var names []string
	for _, p := range prefixes {
		p = strings.Trim(p, "/")
		if p == "" {
			names = nil
			break
		}
		names = append(names, p, "/"+p)
	}
	const most = 10 // values of a filter
	chunks := slices.Collect(slices.Chunk(names, most))
	if len(names) == 0 && len(prefixes) > 0 {
		chunks = [][]string{nil}
	}
	for _, chunk := range chunks {
		in := secretsmanager.ListSecretsInput{MaxResults: aws.Int32(100)}
		if chunk != nil {
			in.Filters = []types.Filter{{Key: types.FilterNameStringTypeName, Values: chunk}}
		}
		for {
			page, err := r.client.listSecrets(ctx, &in)
			if err != nil {
				return nil, err
			}
			secrets = append(secrets, page.SecretList...)
			if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
				break
			}
		}
	}
	return secrets, nil
}

// named reads the secret of prefix, if there was no list, or else the nearest one
// above it that has a field for it. One above that may not be read is logged and
// taken for none: those who may read one secret can't know whether there are others.
// Fields are what only a store that takes objects apart finds.
func (r *reading) named(ctx context.Context, prefix string) ([]backends.KV, error) {
	var refused error
	for key := prefix; key != "" && (key == prefix || !r.store.whole); key = above(key) {
		if key == prefix && r.couldList {
			continue // it is not there
		}
		v, err := r.get(ctx, strings.TrimPrefix(key, "/"))
		switch {
		case err != nil && !awsstore.Denied(err):
			return nil, err
		case err != nil && key == prefix:
			refused = err
		case err != nil:
			r.store.tell(key, fmt.Sprintf("secretsmanager: secret %q may not be read; %s could be in it", strings.TrimPrefix(key, "/"), prefix))
		}
		var kvs []backends.KV
		for _, kv := range v.keys(key, r.store.whole) {
			if backends.Under(prefix, kv.Key) {
				kvs = append(kvs, kv)
			}
		}
		if len(kvs) > 0 {
			return kvs, nil
		}
	}
	return nil, refused
}

// above is the key above key, "" where there is none.
func above(key string) string { return key[:max(strings.LastIndexByte(key, '/'), 0)] }

// get returns the value of a secret, or nothing where there is none.
func (r *reading) get(ctx context.Context, id string) (value, error) {
	out, err := r.client.getSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: &r.store.stage})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		return value{}, nil
	}
	if _, leaving := errors.AsType[*types.InvalidRequestException](err); leaving {
		return value{}, nil // it is marked for deletion
	}
	if err != nil {
		return value{}, err
	}
	return newValue(out), nil
}

// value returns the value of a listed secret, which may be known.
func (r *reading) value(ctx context.Context, entry types.SecretListEntry) (value, error) {
	id, version := aws.ToString(entry.ARN), ""
	for v, stages := range entry.SecretVersionsToStages {
		if slices.Contains(stages, r.store.stage) {
			version = v
		}
	}
	v, err := r.store.recall(id), error(nil)
	if version == "" || v.version != version {
		v, err = r.get(ctx, id)
	}
	if err == nil {
		v.key = "/" + strings.TrimPrefix(aws.ToString(entry.Name), "/")
		r.known[id] = v
	}
	return v, err
}

func (s *Store) recall(id string) value {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[id]
}

// keep keeps what a read found under prefixes, and forgets what is gone there.
func (s *Store) keep(prefixes []string, found map[string]value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, v := range s.known {
		if backends.UnderAny(nil, prefixes, v.key) {
			delete(s.known, id)
		}
	}
	maps.Copy(s.known, found)
}

// tell logs message, once for what.
func (s *Store) tell(what, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.told[what] {
		s.told[what] = true
		s.access.Log.Warn(message)
	}
}

// A client is what is used of the SDK's; [awsstore.Access] says why it is not that.
type client struct {
	listSecrets    func(context.Context, *secretsmanager.ListSecretsInput, ...func(*secretsmanager.Options)) (*secretsmanager.ListSecretsOutput, error)
	getSecretValue func(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

func newClient(cfg aws.Config) *client {
	c := secretsmanager.NewFromConfig(cfg)
	return &client{c.ListSecrets, c.GetSecretValue}
}
