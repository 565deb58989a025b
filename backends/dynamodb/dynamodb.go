// Package dynamodb reads keys from a table of Amazon DynamoDB: each item is a key,
// its attribute "key" the name and its attribute "value" the value. That "key" is
// the table's partition key is usual but not needed.
//
// A read is one Scan of the table for all prefixes, to the last page. DynamoDB
// answers at once what was written before, at twice the price: else two reads may
// see a change come, go and come again.
package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"muster/backends"
	"muster/internal/awsstore"
)

// Config says which table to read.
type Config struct {
	awsstore.Config
	Table string
}

// A Store is a table. All methods may be called at the same time.
type Store struct {
	awsstore.Polled
	access *awsstore.Access[*client]
	table  string

	mu   sync.Mutex      // guards what follows
	told map[string]bool // keys that were logged
}

var _ backends.Together = (*Store)(nil)

// Open is [New] with a store URL; log may be nil:
//
//	dynamodb:TABLE[?region=R&profile=P&endpoint=URL&interval=10s]
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, u, err := awsstore.ParseURL(rawurl, "dynamodb")
	if err != nil {
		return nil, err
	}
	if u.Path == "" {
		return nil, u.Wrong("want dynamodb:TABLE")
	}
	cfg.Log = log
	return New(Config{cfg, u.Path})
}

// New names the table; it is first asked for when it is watched.
func New(cfg Config) (*Store, error) {
	if cfg.Table == "" {
		return nil, errors.New("dynamodb: want the name of a table")
	}
	s := &Store{table: cfg.Table, told: make(map[string]bool)}
	s.access = awsstore.NewAccess(fmt.Sprintf("dynamodb table %q", cfg.Table), cfg.Config,
		newClient)
	s.Polled = awsstore.Polled{Interval: cfg.Interval, Keys: s.keys}
	return s, nil
}

// Reach finds out whether the table is there. Watch needs no Reach: it is for who
// wants to end where nothing can be reached.
func (s *Store) Reach(ctx context.Context) error {
	return s.access.Do(ctx, func(ctx context.Context, c *client) error {
		_, err := c.describeTable(ctx, &dynamodb.DescribeTableInput{TableName: &s.table})
		return err
	})
}

// Close ends the connections. No Watch may be running.
func (s *Store) Close() error {
	s.access.Close()
	return nil
}

func (s *Store) keys(ctx context.Context, prefixes []string, _ bool) (kvs []backends.KV, err error) {
	in := dynamodb.ScanInput{
		TableName:                &s.table,
		ConsistentRead:           aws.Bool(true),
		ProjectionExpression:     aws.String("#k, #v"),
		ExpressionAttributeNames: map[string]string{"#k": "key", "#v": "value"},
	}
	in.FilterExpression, in.ExpressionAttributeValues = filter(prefixes)
	err = s.access.Do(ctx, func(ctx context.Context, c *client) error {
		in, bad := in, make(map[string]bool)
		kvs = nil
		for {
			page, err := c.scan(ctx, &in)
			if err != nil {
				return err
			}
			for _, item := range page.Items {
				key, ok := item["key"].(*types.AttributeValueMemberS)
				if !ok || item["value"] == nil || !backends.UnderAny(nil, prefixes, key.Value) {
					continue
				}
				value, ok := item["value"].(*types.AttributeValueMemberS)
				if !ok {
					bad[key.Value] = true
					continue
				}
				kvs = append(kvs, backends.KV{Key: key.Value, Value: value.Value})
			}
			if len(page.LastEvaluatedKey) == 0 {
				s.tell(prefixes, bad)
				return nil
			}
			in.ExclusiveStartKey = page.LastEvaluatedKey
		}
	})
	return kvs, err
}

// tell logs the keys under prefixes that have no text for a value, each when it
// begins.
func (s *Store) tell(prefixes []string, bad map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.told {
		if !bad[key] && backends.UnderAny(nil, prefixes, key) {
			delete(s.told, key)
		}
	}
	for key := range bad {
		if !s.told[key] {
			s.told[key] = true
			s.access.Log.Warn(fmt.Sprintf("Skipping key '%s'. 'value' is not of type 'string'.", key))
		}
	}
}

// maxFilter is how many prefixes DynamoDB is told at most: an expression has 4 KB
// and 300 operators. More are sorted out here.
const maxFilter = 40

// filter is prefixes as DynamoDB has them. It saves what would be sent, and
// nothing of the price: that is for what is looked at.
func filter(prefixes []string) (expression *string, values map[string]types.AttributeValue) {
	if len(prefixes) > maxFilter {
		return nil, nil
	}
	var terms []string
	values = make(map[string]types.AttributeValue)
	for i, p := range prefixes {
		p = strings.TrimRight(p, "/")
		if p == "" {
			return nil, nil
		}
		self, below := fmt.Sprintf(":s%d", i), fmt.Sprintf(":b%d", i)
		terms = append(terms, fmt.Sprintf("#k = %s OR begins_with(#k, %s)", self, below))
		values[self] = &types.AttributeValueMemberS{Value: p}
		values[below] = &types.AttributeValueMemberS{Value: p + "/"}
	}
	if len(terms) == 0 {
		return nil, nil
	}
	return aws.String(strings.Join(terms, " OR ")), values
}

// A client is what is used of the SDK's; [awsstore.Access] says why it is not that.
type client struct {
	scan          func(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	describeTable func(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
}

func newClient(cfg aws.Config) *client {
	c := dynamodb.NewFromConfig(cfg)
	return &client{c.Scan, c.DescribeTable}
}
