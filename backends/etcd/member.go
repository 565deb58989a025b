package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"muster/internal/storeaddr"
)

// window is how much etcd may send ahead of us.
const window = 256 << 10

// A member is one configured address and its client.
type member struct {
	addr           string      // host:port
	tls            *tls.Config // nil: plain
	user, password string

	turn   chan struct{} // held by who makes or closes client
	client *clientv3.Client
}

// conn returns the member's connection, made at the first call. It needs an
// answer of etcd only where there is a password: then it logs in, until ctx
// ends. The protobuf calls on it fail at once while the member is away.
func (m *member) conn(ctx context.Context) (*grpc.ClientConn, error) {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if m.client != nil {
		conn := m.client.ActiveConnection()
		if conn.GetState() == connectivity.TransientFailure {
			conn.ResetConnectBackoff() // whoever calls has waited enough
		}
		return conn, nil
	}
	// The client keeps its context for ever, so ctx may end it only now.
	life, end := context.WithCancel(context.Background())
	unhook := context.AfterFunc(ctx, end)
	scheme := "http://"
	if m.tls != nil {
		scheme = "https://"
	}
	c, err := clientv3.New(clientv3.Config{
		Context:     life,
		Endpoints:   []string{scheme + m.addr},
		TLS:         m.tls,
		Username:    m.user,
		Password:    m.password,
		DialTimeout: answerWithin,
		Logger:      zap.NewNop(),
		// One try, and one more after a login that ran out: who calls knows
		// better where to try next.
		MaxUnaryRetries: 2,
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: answerWithin,
			}),
			// A loop that is slow makes etcd wait, and not this heap grow.
			grpc.WithStaticStreamWindowSize(window),
			grpc.WithStaticConnWindowSize(window),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		},
	})
	if !unhook() {
		if err == nil {
			c.Close()
		}
		err = ctx.Err() // and not that its context ended, which is our doing
	}
	if err != nil {
		end()
		if m.user != "" && isLate(err) {
			err = &loginError{m.user, err}
		}
		return nil, err
	}
	m.client = c
	return c.ActiveConnection(), nil
}

func (m *member) close() error {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	if m.client == nil {
		return nil
	}
	err := m.client.Close()
	m.client = nil
	if errors.Is(err, context.Canceled) {
		return nil // Close cancels the client's own context and tells of it
	}
	return err
}

// trouble is err with the member it came from, as a person would say it.
func (m *member) trouble(err error) error {
	return &memberError{m.addr, err}
}

type memberError struct {
	addr string
	err  error
}

func (e *memberError) Error() string { return "etcd " + e.addr + ": " + reason(e.err) }
func (e *memberError) Unwrap() error { return e.err }

// A loginError is a login that was not answered in time.
type loginError struct {
	user string
	err  error
}

func (e *loginError) Error() string {
	return fmt.Sprintf("no answer in time to the login of %q", e.user)
}
func (e *loginError) Unwrap() error { return e.err }

func isLate(err error) bool {
	return status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded)
}

// reason is what a gRPC error says, without its wrapping.
func reason(err error) string {
	if login, ok := errors.AsType[*loginError](err); ok {
		return login.Error()
	}
	if isLate(err) {
		return "no answer in time"
	}
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	if _, dial, ok := strings.Cut(text, `desc = "transport: `); ok {
		text = strings.TrimSuffix(dial, `"`)
		text = strings.TrimPrefix(text, "Error while dialing: ")
	}
	return strings.TrimPrefix(text, "etcdserver: ")
}

// is reports whether err is etcd's error of that kind, one of rpctypes.ErrGRPC….
func is(err, kind error) bool {
	if m, ok := errors.AsType[*memberError](err); ok {
		err = m.err
	}
	return err != nil && status.Convert(err).Message() == status.Convert(kind).Message()
}

// codeOf is the code of etcd's error. A grpc-proxy hands on its text only.
func codeOf(err error) codes.Code {
	if m, ok := errors.AsType[*memberError](err); ok {
		err = m.err
	}
	if known, ok := rpctypes.Error(err).(rpctypes.EtcdError); ok {
		return known.Code()
	}
	return status.Code(err)
}

// hopeless reports whether asking again, or elsewhere, can't help: it is the
// request that is refused.
func hopeless(err error) bool {
	switch codeOf(err) {
	case codes.PermissionDenied, codes.NotFound:
		return true
	case codes.InvalidArgument:
		// These two are about the login, which may be mended meanwhile.
		return !is(err, rpctypes.ErrGRPCAuthFailed) && !is(err, rpctypes.ErrGRPCAuthOldRevision)
	default:
		return false
	}
}

// withLeader makes a member without a leader say so, instead of answering with
// what it last knew.
func withLeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
}

// ask calls f with the connection of one member after the other until one
// answers, each for at most answerWithin. It starts with the one that answered
// last. The error is of all of them, or of the one that refuses the request
// itself.
func (s *Store) ask(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	var errs []error
	first := int(s.answering.Load())
	for i := range s.members {
		at := (first + i) % len(s.members)
		m := s.members[at]
		err := timed(ctx, answerWithin, func(ctx context.Context) error {
			conn, err := m.conn(ctx)
			if err != nil {
				return err
			}
			return f(ctx, conn)
		})
		switch {
		case err == nil:
			s.answering.Store(int32(at))
			return nil
		case isConflict(err):
			return err
		case hopeless(err):
			return m.trouble(err)
		}
		errs = append(errs, m.trouble(err))
		if ctx.Err() != nil {
			break
		}
	}
	return storeaddr.Together(errs...)
}

// timed calls f with at most d of time.
func timed(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(withLeader(ctx))
}
