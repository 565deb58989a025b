// Package ssm reads keys from the Parameter Store of AWS Systems Manager: a
// parameter's name is the key and its value, decrypted where it is a SecureString,
// the value.
package ssm

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"muster/backends"
	"muster/internal/awsstore"
)

// A Store is the parameters of an account in a region. All methods may be called
// at the same time.
type Store struct {
	awsstore.Polled
	access *awsstore.Access[*client]
}

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL; log may be nil:
//
//	ssm:[?region=R&profile=P&endpoint=URL&interval=10s]
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, u, err := awsstore.ParseURL(rawurl, "ssm")
	if err != nil {
		return nil, err
	}
	if u.Path != "" {
		return nil, u.Wrong("want ssm: alone; which keys are read is said by -prefix")
	}
	cfg.Log = log
	return New(cfg), nil
}

// New asks nobody anything yet.
func New(cfg awsstore.Config) *Store {
	s := &Store{access: awsstore.NewAccess("ssm", cfg, newClient)}
	s.Polled = awsstore.Polled{Interval: cfg.Interval, Keys: s.keys}
	return s
}

// Reach finds out whether there are region and credentials, as the original does at
// its start.
func (s *Store) Reach(ctx context.Context) error { return s.access.Reach(ctx) }

// Close ends the connections. No Watch may be running.
func (s *Store) Close() error {
	s.access.Close()
	return nil
}

func (s *Store) keys(ctx context.Context, prefixes []string, whole bool) (kvs []backends.KV, err error) {
	err = s.access.Do(ctx, func(ctx context.Context, c *client) error {
		kvs = nil
		for _, p := range backends.Outermost(prefixes) {
			found, err := under(ctx, c, strings.TrimRight(p, "/"), whole)
			if err != nil {
				return err
			}
			kvs = append(kvs, found...)
		}
		return nil
	})
	return kvs, err
}

// under reads prefix and what lies below it. They take two permissions, of which
// the original does with either, where it finds something by it; so does this,
// unless all is wanted.
func under(ctx context.Context, c *client, prefix string, whole bool) ([]backends.KV, error) {
	kvs, belowErr := below(ctx, c, prefix)
	if belowErr != nil && (whole || !awsstore.Denied(belowErr)) {
		return nil, belowErr
	}
	if prefix == "" {
		return kvs, belowErr
	}
	self, selfErr := itself(ctx, c, prefix)
	if selfErr != nil && (whole || !awsstore.Denied(selfErr)) {
		return nil, selfErr
	}
	kvs = append(kvs, self...)
	if len(kvs) == 0 {
		return nil, errors.Join(belowErr, selfErr)
	}
	return kvs, nil
}

// below reads all pages of what lies below prefix. A page may be empty and have a
// next one all the same.
func below(ctx context.Context, c *client, prefix string) (kvs []backends.KV, err error) {
	if prefix != "" && prefix[0] != '/' {
		return nil, nil // there are no levels below such a name
	}
	in := ssm.GetParametersByPathInput{Path: aws.String(cmp.Or(prefix, "/")), Recursive: aws.Bool(true), WithDecryption: aws.Bool(true)}
	for {
		page, err := c.getParametersByPath(ctx, &in)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Parameters {
			kvs = append(kvs, backends.KV{Key: aws.ToString(p.Name), Value: aws.ToString(p.Value)})
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return kvs, nil
		}
	}
}

func itself(ctx context.Context, c *client, name string) ([]backends.KV, error) {
	out, err := c.getParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	if _, missing := errors.AsType[*types.ParameterNotFound](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []backends.KV{{Key: name, Value: aws.ToString(out.Parameter.Value)}}, nil
}

// A client is what is used of the SDK's; [awsstore.Access] says why it is not that.
type client struct {
	getParametersByPath func(context.Context, *ssm.GetParametersByPathInput, ...func(*ssm.Options)) (*ssm.GetParametersByPathOutput, error)
	getParameter        func(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
}

func newClient(cfg aws.Config) *client {
	c := ssm.NewFromConfig(cfg)
	return &client{c.GetParametersByPath, c.GetParameter}
}
