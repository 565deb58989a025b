package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

var (
	errSilent    = fmt.Errorf("no answer for %v", answerWithin)
	errCompacted = errors.New("compacted")
)

// A stream is one open watch stream of a member, with one watch per span. The
// watch's ID is the span's index plus one.
//
// Behind etcd's grpc-proxy it is the index: that one counts by itself, and so is
// known. It answers no progress request; see proof.go for what is done instead.
type stream struct {
	conn      *grpc.ClientConn
	watches   int
	proxied   bool
	cancel    context.CancelFunc
	grpc      etcdserverpb.Watch_WatchClient
	responses chan *etcdserverpb.WatchResponse // unbuffered: who reads slowly makes etcd wait
	err       error                            // why responses was closed
	early     []*etcdserverpb.WatchResponse    // what came before every watch was created
}

// openStream watches all from revision on, and returns when etcd has agreed to
// each, for at most answerWithin.
func openStream(ctx context.Context, conn *grpc.ClientConn, all []span, revision int64) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(answerWithin, cancel)
	s := &stream{conn: conn, watches: len(all), cancel: cancel, responses: make(chan *etcdserverpb.WatchResponse)}
	var err error
	if s.grpc, err = etcdserverpb.NewWatchClient(conn).Watch(withLeader(ctx)); err != nil {
		close(s.responses)
	} else {
		go s.receive(ctx)
		err = s.create(all, revision)
	}
	if !late.Stop() {
		err = errSilent
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stream) create(all []span, revision int64) error {
	for i, span := range all {
		// The reason of a failed Send comes with receive.
		_ = s.grpc.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			CreateRequest: &etcdserverpb.WatchCreateRequest{
				Key: []byte(span.from), RangeEnd: []byte(span.to), StartRevision: revision,
				// Not Fragment: etcd 3.7 cuts a response in quadratic time, and for
				// 20,000 deletes it was silent for 4 s. Whole, they took 2 s.
				WatchId: int64(i + 1),
				// Not for a stream of etcd's own, which is asked.
				ProgressNotify: true,
			},
		}})
	}
	for created := 0; created < len(all); {
		r, ok := <-s.responses
		switch {
		case !ok:
			return s.err
		case r.Canceled:
			return canceled(r)
		case r.Created:
			created++
			s.proxied = s.proxied || r.WatchId == 0
		default:
			s.early = append(s.early, r)
		}
	}
	return nil
}

// canceled is why etcd ended a watch.
func canceled(r *etcdserverpb.WatchResponse) error {
	if r.CompactRevision != 0 {
		return errCompacted
	}
	return &canceledError{r.CancelReason}
}

type canceledError struct{ reason string }

func (e *canceledError) Error() string { return "watch canceled: " + e.reason }

// receive hands on what comes until the stream ends.
func (s *stream) receive(ctx context.Context) {
	defer close(s.responses)
	var storm storm
	for {
		asked := time.Now()
		r, err := s.grpc.Recv()
		if err != nil {
			s.err = err
			return
		}
		came := time.Now()
		select {
		case s.responses <- r:
		case <-ctx.Done():
			s.err = ctx.Err()
			return
		}
		if len(r.Events) > 0 && storm.rests(came, came.Sub(asked)) {
			pause(ctx, restFor)
		}
	}
}

// A storm is a time of many events, in which a stream is left alone for restFor at
// a time: what comes meanwhile waits in the connection, bounded by its window,
// and wakes nobody; then it is taken without a rest, however much it is. Events
// that follow each other more slowly are taken as they come.
type storm struct {
	on     bool
	piled  int       // events of the last rest that had not to be waited for
	since  time.Time // when waits began
	waited int       // events that had to be waited for since then
}

const (
	restFor    = 10 * time.Millisecond
	ranDry     = 200 * time.Microsecond // an event that is there takes less
	stormBegin = 20                     // so many waits
	stormTime  = 60 * time.Millisecond  // within this time begin one
	stormGoes  = 2                      // events piled up in a rest: it goes on
)

// rests reports whether to rest behind an event that came now, after a wait.
func (s *storm) rests(now time.Time, wait time.Duration) bool {
	if wait < ranDry {
		s.piled++
		return false
	}
	if s.on = s.on && s.piled >= stormGoes && wait < stormTime; !s.on {
		if now.Sub(s.since) > stormTime {
			s.since, s.waited = now, 0
		}
		s.waited++
		s.on = s.waited >= stormBegin
	}
	s.piled = 0
	return s.on
}

// span is the index of the span that r is about.
func (s *stream) span(r *etcdserverpb.WatchResponse) int {
	if s.proxied {
		return int(r.WatchId)
	}
	return int(r.WatchId - 1)
}

// askProgress makes etcd say at which revision every watch is, once all are. A
// grpc-proxy would only log that it is asked.
func (s *stream) askProgress() {
	if s.proxied {
		return
	}
	_ = s.grpc.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{
		ProgressRequest: &etcdserverpb.WatchProgressRequest{},
	}})
}

// close ends the stream and waits for receive.
func (s *stream) close() {
	s.cancel()
	for range s.responses {
		// until it is closed
	}
}
