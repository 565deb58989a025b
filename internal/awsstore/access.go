package awsstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/logging"
	"github.com/cenkalti/backoff/v5"
)

// answerWithin is how long one try of a request may take. The SDK makes three.
const answerWithin = 5 * time.Second

// nearWithin is that of an [Access.Anonymous] service: it is on this machine, or
// this is no machine that has it, and then nobody answers.
const nearWithin = 2 * time.Second

// An Access is the way to one service, whose client is a C. It makes the client
// when it is first used. All methods may be called at the same time.
//
// C should not be the SDK's own client, nor have it in a field. A Store is kept in
// interfaces, and of every type that can be reached from there the linker keeps all
// methods, as a template might call them: of the SDK's clients that is every
// operation of the service, 5 MiB for four. Functions as fields keep what is used.
type Access[C any] struct {
	// Log is where the store says what of its keys can't be used.
	Log *slog.Logger

	// Anonymous says that the service wants neither region nor credentials: it is
	// the instance's own.
	Anonymous bool

	name string // of the store, as errors have it
	cfg  Config
	make func(aws.Config) C

	lock  chan struct{} // holds one; guards what follows
	http  *http.Client  // of the service; nil before it is first used
	now   *session[C]   // nil: to be made
	pause *backoff.ExponentialBackOff
	until time.Time // the service wants no request before
}

// A session is a client with the credentials it has.
type session[C any] struct {
	client C
	config aws.Config
}

// NewAccess is the way to a service; create makes its client. It asks nobody
// anything yet.
func NewAccess[C any](name string, cfg Config, create func(aws.Config) C) *Access[C] {
	a := &Access[C]{
		Log: cfg.logger(), name: name, cfg: cfg, make: create,
		lock: make(chan struct{}, 1), pause: backoff.NewExponentialBackOff(),
	}
	a.pause.InitialInterval, a.pause.MaxInterval = time.Second, time.Minute
	return a
}

// Close ends the connections. Nothing may be running.
func (a *Access[C]) Close() {
	if a.http != nil {
		a.http.CloseIdleConnections()
	}
}

// Do runs op with the client, and says what went wrong in our words. Where the
// credentials were refused and others are to be had, it is run once more; where
// the service was asked too much, the next Do waits.
func (a *Access[C]) Do(ctx context.Context, op func(context.Context, C) error) error {
	if err := a.wait(ctx); err != nil {
		return err
	}
	s, err := a.session(ctx, nil)
	if err == nil {
		err = op(ctx, s.client)
		if refused(err) && !a.Anonymous && ctx.Err() == nil {
			var fresh *session[C]
			if fresh, err = a.renewed(ctx, s, err); fresh != nil {
				err = op(ctx, fresh.client)
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.pace(throttled(err))
	return wrong(a.name, err)
}

// Reach finds out whether there are credentials, as confd does at its start.
func (a *Access[C]) Reach(ctx context.Context) error {
	return a.Do(ctx, func(context.Context, C) error { return nil })
}

// renewed is a session whose credentials are not those of s, or nil and why.
func (a *Access[C]) renewed(ctx context.Context, s *session[C], why error) (*session[C], error) {
	before, _ := s.config.Credentials.Retrieve(ctx)
	fresh, err := a.session(ctx, s)
	if err != nil {
		return nil, err
	}
	now, err := fresh.config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	if now.AccessKeyID == before.AccessKeyID && now.SecretAccessKey == before.SecretAccessKey && now.SessionToken == before.SessionToken {
		return nil, why
	}
	return fresh, nil
}

// session is the one there is, or a new one where that is spent.
func (a *Access[C]) session(ctx context.Context, spent *session[C]) (*session[C], error) {
	if err := a.enter(ctx); err != nil {
		return nil, err
	}
	defer a.leave()
	if a.now == nil || a.now == spent {
		a.now = nil
		cfg, err := a.load(ctx)
		if err != nil {
			return nil, err
		}
		a.now = &session[C]{a.make(cfg), cfg}
	}
	if a.now.config.Credentials == nil {
		return a.now, nil // wants none
	}
	if _, err := a.now.config.Credentials.Retrieve(ctx); err != nil {
		a.now = nil // they may be elsewhere the next time
		return nil, &credentialsError{err}
	}
	return a.now, nil
}

// load finds region, credentials and endpoint. Who gives credentials is asked
// rarely, through clients that the SDK keeps to itself, and so on connections
// that do not stay. The service's own stay over all sessions.
func (a *Access[C]) load(ctx context.Context) (aws.Config, error) {
	rarely := awshttp.NewBuildableClient().WithTimeout(answerWithin).WithTransportOptions(func(t *http.Transport) {
		t.DisableKeepAlives = true
	})
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(rarely), config.WithLogger(sdkLog{a.Log})}
	if a.cfg.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(a.cfg.Profile))
	}
	if a.cfg.Region != "" {
		options = append(options, config.WithRegion(a.cfg.Region))
	}
	if a.cfg.Endpoint != "" {
		options = append(options, config.WithBaseEndpoint(a.cfg.Endpoint))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if a.Anonymous {
		cfg.Credentials = nil
	} else if err == nil && cfg.Region == "" {
		cfg.Region, err = instanceRegion(ctx, cfg)
	}
	if err != nil {
		return cfg, err
	}
	if a.http == nil {
		transport := rarely.GetTransport()
		if found, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // with the CA of AWS_CA_BUNDLE
			transport = found.GetTransport()
		}
		transport.DisableKeepAlives = false
		a.http = &http.Client{Transport: keeping{transport}, Timeout: answerWithin}
		if a.Anonymous {
			a.http.Timeout = nearWithin
		}
	}
	cfg.HTTPClient = a.http
	return cfg, nil
}

// keeping is a transport that keeps its connections. The SDK closes a request's
// body when the answer is there, and its WriteTo calls that an error then; where
// the answer came quickly, net/http still looks for the body's end, and gives the
// connection up.
type keeping struct{ *http.Transport }

// RoundTrip hides WriteTo.
func (t keeping) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		plain := *r
		plain.Body = struct{ io.ReadCloser }{r.Body}
		r = &plain
	}
	return t.Transport.RoundTrip(r)
}

// sdkLog says at level debug what the SDK wants to be heard of.
type sdkLog struct{ *slog.Logger }

func (l sdkLog) Logf(_ logging.Classification, format string, args ...any) {
	l.Debug("SDK of AWS: " + fmt.Sprintf(format, args...))
}

// instanceRegion is where the instance is that this runs on.
func instanceRegion(ctx context.Context, cfg aws.Config) (string, error) {
	out, err := imds.NewFromConfig(cfg).GetRegion(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("no region: want AWS_REGION, a region in the shared config file, or an instance that knows its own (%v)", err)
	}
	return out.Region, nil
}

// wait waits for as long as the service wants no request.
func (a *Access[C]) wait(ctx context.Context) error {
	if err := a.enter(ctx); err != nil {
		return err
	}
	pause := time.Until(a.until)
	a.leave()
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pace makes the next wait longer each time that the service was asked too much.
func (a *Access[C]) pace(tooMuch bool) {
	a.lock <- struct{}{}
	defer a.leave()
	if !tooMuch {
		a.pause.Reset()
		return
	}
	a.until = time.Now().Add(a.pause.NextBackOff())
}

func (a *Access[C]) enter(ctx context.Context) error {
	select {
	case a.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Access[C]) leave() { <-a.lock }

// A credentialsError is that there are none.
type credentialsError struct{ error }

func (e *credentialsError) Unwrap() error { return e.error }

func isCredentials(err error) bool { _, ok := errors.AsType[*credentialsError](err); return ok }
