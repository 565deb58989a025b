// Package imds reads the metadata of the EC2 instance that this runs on, from its
// metadata service (IMDSv2). Paths are keys:
//
//	/meta-data/instance-id   /dynamic/instance-identity/document   /user-data
//
// A key that begins with none of the three means what is below meta-data, and
// keeps its name: /instance-id, /placement/region.
//
// Whether something is a folder is only to be seen in the list that has it, so a
// read walks down from the top. Values may have many lines, and lists only one.
package imds

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"muster/backends"
	"muster/internal/awsstore"
)

// A Store is the metadata of this instance. All methods may be called at the same
// time.
type Store struct {
	awsstore.Polled
	access *awsstore.Access[*imds.Client]
}

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL; log may be nil:
//
//	imds:[?endpoint=URL&interval=10s]
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, u, err := awsstore.ParseURL(rawurl, "imds")
	if err != nil {
		return nil, err
	}
	if u.Path != "" {
		return nil, u.Wrong("want imds: alone; which keys are read is said by -prefix")
	}
	cfg.Log = log
	return New(cfg), nil
}

// New asks nobody anything yet. Of cfg, region and profile don't matter.
func New(cfg awsstore.Config) *Store {
	s := &Store{access: awsstore.NewAccess("imds", cfg, func(c aws.Config) *imds.Client {
		return imds.NewFromConfig(c, func(o *imds.Options) {
			if cfg.Endpoint != "" {
				o.Endpoint = cfg.Endpoint
			}
		})
	})}
	s.access.Anonymous = true
	s.Polled = awsstore.Polled{Interval: cfg.Interval, Keys: s.keys}
	return s
}

// Reach finds out whether there is a metadata service, as confd's fork does.
func (s *Store) Reach(ctx context.Context) error {
	return s.access.Do(ctx, func(ctx context.Context, c *imds.Client) error {
		_, err := (&walk{client: c}).get(ctx, "meta-data/")
		return err
	})
}

// Close ends the connections. No Watch may be running.
func (s *Store) Close() error {
	s.access.Close()
	return nil
}

func (s *Store) keys(ctx context.Context, prefixes []string, _ bool) (kvs []backends.KV, err error) {
	err = s.access.Do(ctx, func(ctx context.Context, c *imds.Client) error {
		w := walk{client: c, got: make(map[string]answer)}
		for _, prefix := range prefixes {
			if err := w.prefix(ctx, prefix); err != nil {
				return err
			}
		}
		kvs = w.kvs
		return nil
	})
	return kvs, err
}

// trees are what there is; what begins with none of them is below the first.
var trees = []string{"meta-data", "dynamic", "user-data"}

// A walk is one read.
type walk struct {
	client *imds.Client
	got    map[string]answer // by path
	kvs    []backends.KV
}

type answer struct {
	text  string
	there bool
}

// prefix adds the keys under prefix.
func (w *walk) prefix(ctx context.Context, prefix string) error {
	name := strings.TrimRight(prefix, "/")
	path := strings.Trim(prefix, "/")
	if path = strings.TrimPrefix(path+"/", "latest/"); path == "" || path == "/" {
		for _, tree := range trees {
			if err := w.at(ctx, tree, name+"/"+tree); err != nil {
				return err
			}
		}
		return nil
	}
	path = strings.TrimRight(path, "/")
	if tree, _, _ := strings.Cut(path, "/"); !slices.Contains(trees, tree) {
		path = trees[0] + "/" + path
	}
	return w.at(ctx, path, name)
}

// at adds what there is at path, which may be a value or a folder, as key.
func (w *walk) at(ctx context.Context, path, key string) error {
	folder, rest, deeper := strings.Cut(path, "/")
	if folder == "user-data" {
		if deeper {
			return nil
		}
		return w.value(ctx, path, key)
	}
	for deeper {
		entries, err := w.list(ctx, folder)
		if err != nil {
			return err
		}
		var name string
		name, rest, deeper = strings.Cut(rest, "/")
		switch {
		case slices.Contains(entries, name+"/"):
			folder += "/" + name
		case deeper:
			return nil
		default: // it may be there although no list says so
			return w.value(ctx, folder+"/"+name, key)
		}
	}
	return w.below(ctx, folder, key)
}

// below adds all that lies in a folder.
func (w *walk) below(ctx context.Context, folder, key string) error {
	entries, err := w.list(ctx, folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name, isFolder := strings.CutSuffix(entry, "/")
		if isFolder {
			err = w.below(ctx, folder+"/"+name, key+"/"+name)
		} else {
			err = w.value(ctx, folder+"/"+name, key+"/"+name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list returns what is in a folder; folders in it end in a slash.
func (w *walk) list(ctx context.Context, folder string) ([]string, error) {
	a, err := w.get(ctx, folder+"/")
	if err != nil || !a.there {
		return nil, err
	}
	var entries []string
	for line := range strings.Lines(a.text) {
		line = strings.TrimSpace(line)
		if number, _, ok := strings.Cut(line, "="); ok && folder == "meta-data/public-keys" {
			line = number + "/" // of 0=NAME
		}
		if line != "" {
			entries = append(entries, line)
		}
	}
	return entries, nil
}

// value adds the value at path, if there is one.
func (w *walk) value(ctx context.Context, path, key string) error {
	a, err := w.get(ctx, path)
	if err == nil && a.there {
		w.kvs = append(w.kvs, backends.KV{Key: key, Value: a.text})
	}
	return err
}

// get asks for path once in a walk. What is not there is no error.
func (w *walk) get(ctx context.Context, path string) (answer, error) {
	if a, ok := w.got[path]; ok {
		return a, nil
	}
	a, err := ask(ctx, w.client, path)
	if err == nil && w.got != nil {
		w.got[path] = a
	}
	return a, err
}

func ask(ctx context.Context, c *imds.Client, path string) (answer, error) {
	var body io.ReadCloser
	var err error
	tree, rest, _ := strings.Cut(path, "/")
	rest = cmp.Or(rest, "/") // the SDK cuts the slash of an empty path
	switch tree {
	case "meta-data":
		var out *imds.GetMetadataOutput
		if out, err = c.GetMetadata(ctx, &imds.GetMetadataInput{Path: rest}); err == nil {
			body = out.Content
		}
	case "dynamic":
		var out *imds.GetDynamicDataOutput
		if out, err = c.GetDynamicData(ctx, &imds.GetDynamicDataInput{Path: rest}); err == nil {
			body = out.Content
		}
	default:
		var out *imds.GetUserDataOutput
		if out, err = c.GetUserData(ctx, &imds.GetUserDataInput{}); err == nil {
			body = out.Content
		}
	}
	if failed, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && failed.HTTPStatusCode() == http.StatusNotFound {
		return answer{}, nil
	}
	if err != nil {
		return answer{}, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return answer{string(text), true}, err
}
