// Package acm reads certificates from AWS Certificate Manager: the name of one,
// its ARN, is a key, and what belongs to it are keys with that name and more.
//
//	/arn:aws:acm:eu-west-1:123456789012:certificate/ID               its PEM
//	/arn:aws:acm:eu-west-1:123456789012:certificate/ID_chain         those that signed it
//	/arn:aws:acm:eu-west-1:123456789012:certificate/ID_private_key   its key, where it is to be exported
//
// A key that is exported is encrypted with a passphrase, and looks different each
// time. So it is exported only when the certificate is another one.
package acm

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/acm/types"

	"muster/backends"
	"muster/internal/awsstore"
)

const (
	chainSuffix = "_chain"
	keySuffix   = "_private_key"
)

// Config says what of a certificate is read.
type Config struct {
	awsstore.Config

	// Passphrase is what private keys are encrypted with when they are exported;
	// empty means that none is.
	Passphrase string
}

// A Store is the certificates of an account in a region. All methods may be called
// at the same time. It is no [backends.Together]: a certificate's chain does not
// lie under the certificate's key, but is wanted by who wants that.
type Store struct {
	polled     awsstore.Polled
	access     *awsstore.Access[*client]
	passphrase []byte

	mu       sync.Mutex // guards what follows
	exported map[string]export
	told     map[string]bool // what was logged
}

// An export is a private key, and the certificate that it was exported with.
type export struct{ certificate, key string }

var _ backends.Store = (*Store)(nil)

// Open is [New] with a store URL; log may be nil:
//
//	acm:[?passphrase=file:FILE&region=R&profile=P&endpoint=URL&interval=10s]
//
// With a passphrase private keys are exported.
func Open(rawurl string, log *slog.Logger) (*Store, error) {
	cfg, u, err := awsstore.ParseURL(rawurl, "acm", "passphrase")
	if err != nil {
		return nil, err
	}
	if u.Path != "" {
		return nil, u.Wrong("want acm: alone; which certificates are read is said by the keys")
	}
	passphrase, err := u.Secret("passphrase")
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	return New(Config{cfg, passphrase}), nil
}

// New asks nobody anything yet.
func New(cfg Config) *Store {
	s := &Store{passphrase: []byte(cfg.Passphrase), exported: make(map[string]export), told: make(map[string]bool)}
	s.access = awsstore.NewAccess("acm", cfg.Config, newClient)
	s.polled = awsstore.Polled{Interval: cfg.Interval, Keys: s.keys}
	return s
}

// Watch follows the certificates under prefixes by reading them.
func (s *Store) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return s.polled.Watch(ctx, prefixes)
}

// Reach finds out whether there are region and credentials.
func (s *Store) Reach(ctx context.Context) error { return s.access.Reach(ctx) }

// Close ends the connections. No Watch may be running.
func (s *Store) Close() error {
	s.access.Close()
	return nil
}

// one is the key of one certificate.
var one = regexp.MustCompile(`^/arn:[^/]+:certificate/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (s *Store) keys(ctx context.Context, prefixes []string, _ bool) (kvs []backends.KV, err error) {
	err = s.access.Do(ctx, func(ctx context.Context, c *client) error {
		kvs = nil
		arns, err := certificates(ctx, c, prefixes)
		if err != nil {
			return err
		}
		for arn, asked := range arns {
			found, err := s.certificate(ctx, c, arn, asked)
			if err != nil {
				return err
			}
			for _, kv := range found {
				if wanted(prefixes, "/"+arn, kv.Key) {
					kvs = append(kvs, kv)
				}
			}
		}
		return nil
	})
	return kvs, err
}

// wanted reports whether key, which belongs to the certificate of self, is asked for
// by prefixes.
func wanted(prefixes []string, self, key string) bool {
	return backends.UnderAny(nil, prefixes, self) || backends.UnderAny(nil, prefixes, key)
}

// certificates are the ARNs that prefixes may want, and whether they are asked for
// by name. A list is made only where a prefix is not one certificate's.
func certificates(ctx context.Context, c *client, prefixes []string) (map[string]bool, error) {
	arns := make(map[string]bool)
	list := false
	for _, p := range prefixes {
		self := strings.TrimSuffix(strings.TrimSuffix(strings.TrimRight(p, "/"), chainSuffix), keySuffix)
		if one.MatchString(self) {
			arns[self[1:]] = true
		} else {
			list = true
		}
	}
	if !list {
		return arns, nil
	}
	in := acm.ListCertificatesInput{
		Includes: &types.Filters{KeyTypes: types.KeyAlgorithm("").Values()}, // else it is RSA alone
		CertificateStatuses: []types.CertificateStatus{
			types.CertificateStatusIssued, types.CertificateStatusInactive, types.CertificateStatusExpired, types.CertificateStatusRevoked,
		},
	}
	for {
		page, err := c.listCertificates(ctx, &in)
		if err != nil {
			return nil, err
		}
		for _, summary := range page.CertificateSummaryList {
			arn := aws.ToString(summary.CertificateArn)
			if _, known := arns[arn]; !known && wanted(prefixes, "/"+arn, "/"+arn+chainSuffix) {
				arns[arn] = false
			}
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return arns, nil
		}
	}
}

// certificate reads one. One that is not there has no keys, and one that is not
// issued yet, or may not be exported, is an error if it is asked for by name.
func (s *Store) certificate(ctx context.Context, c *client, arn string, asked bool) ([]backends.KV, error) {
	out, err := c.getCertificate(ctx, &acm.GetCertificateInput{CertificateArn: &arn})
	_, missing := errors.AsType[*types.ResourceNotFoundException](err)
	_, pending := errors.AsType[*types.RequestInProgressException](err)
	switch {
	case missing, pending && !asked:
		s.forget(arn)
		return nil, nil
	case err != nil:
		return nil, err
	}
	text := aws.ToString(out.Certificate)
	kvs := []backends.KV{{Key: "/" + arn, Value: text}}
	if chain := aws.ToString(out.CertificateChain); chain != "" {
		kvs = append(kvs, backends.KV{Key: "/" + arn + chainSuffix, Value: chain})
	}
	if len(s.passphrase) == 0 {
		return kvs, nil
	}
	key, err := s.key(ctx, c, arn, text)
	switch code := awsstore.Code(err); {
	case err == nil:
		kvs = append(kvs, backends.KV{Key: "/" + arn + keySuffix, Value: key})
	case !asked && code == "ValidationException":
		s.tell(fmt.Sprintf("acm: certificate %s has no private key to export", arn))
	default:
		return nil, err
	}
	return kvs, nil
}

// key exports the private key of a certificate, or has done so before.
func (s *Store) key(ctx context.Context, c *client, arn, certificate string) (string, error) {
	s.mu.Lock()
	known, ok := s.exported[arn]
	s.mu.Unlock()
	if ok && known.certificate == certificate {
		return known.key, nil
	}
	out, err := c.exportCertificate(ctx, &acm.ExportCertificateInput{CertificateArn: &arn, Passphrase: s.passphrase})
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.exported[arn]; ok && other.certificate == certificate {
		return other.key, nil // of another watch, which was faster
	}
	fresh := export{certificate, aws.ToString(out.PrivateKey)}
	s.exported[arn] = fresh
	return fresh.key, nil
}

func (s *Store) forget(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.exported, arn)
}

// tell logs message once.
func (s *Store) tell(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.told[message] {
		s.told[message] = true
		s.access.Log.Warn(message)
	}
}

// A client is what is used of the SDK's; [awsstore.Access] says why it is not that.
type client struct {
	listCertificates  func(context.Context, *acm.ListCertificatesInput, ...func(*acm.Options)) (*acm.ListCertificatesOutput, error)
	getCertificate    func(context.Context, *acm.GetCertificateInput, ...func(*acm.Options)) (*acm.GetCertificateOutput, error)
	exportCertificate func(context.Context, *acm.ExportCertificateInput, ...func(*acm.Options)) (*acm.ExportCertificateOutput, error)
}

func newClient(cfg aws.Config) *client {
	c := acm.NewFromConfig(cfg)
	return &client{c.ListCertificates, c.GetCertificate, c.ExportCertificate}
}
