package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"muster/backends"
)

// A watch behind etcd's grpc-proxy answers no progress request. What proves then
// that we are not cut off:
//
//   - every proofEvery a read of the last key we know of, at its own revision, goes
//     through to etcd. It says that etcd answers and is the one we follow.
//   - etcd's notices, which come on the stream itself: every ten minutes, or as
//     --watch-progress-notify-interval says. A stream on which they have stopped
//     is dead, and the proxy has not told.

const (
	// proofEvery is half as often as etcd itself is asked: a proof is a read for
	// etcd, and there are many who ask.
	proofEvery = time.Second
	// noticeWithin is how long nothing at all may come on a proxied stream
	// while it is not known how often etcd gives notice: by itself every ten
	// minutes, and up to a tenth more.
	noticeWithin = 25 * time.Minute
	// missed is how many notices may be missing once that is known.
	missed = 3
)

var (
	errOther = errors.New("etcd's history is another one")
	errDead  = errors.New("no notice on the watch for a long time")
)

// proofs asks for the proofs of one proxied stream; of another it does nothing.
type proofs struct {
	ctx     context.Context
	stream  *stream
	answers chan proof // unbuffered
	wg      sync.WaitGroup
	asking  bool
	next    time.Time // not before
	last    proof     // taken from answers
	before  int64     // the revision of the proof before

	at       time.Time     // when something came on the stream
	noticed  bool          // and that was a notice
	interval time.Duration // between two notices; 0: not known
}

// A proof is where etcd stands, or why that is none.
type proof struct {
	revision int64
	err      error
}

func newProofs(ctx context.Context, s *stream) *proofs {
	return &proofs{ctx: ctx, stream: s, answers: make(chan proof), at: time.Now()}
}

// within is how long the stream may be silent.
func (p *proofs) within() time.Duration {
	if p.stream.proxied {
		return proofEvery + answerWithin
	}
	return answerWithin
}

// wait returns when nothing is being asked any more; ctx has ended.
func (p *proofs) wait() { p.wg.Wait() }

// ask asks, unless that is being done.
func (p *proofs) ask(at *place) {
	if !p.stream.proxied || p.asking || time.Now().Before(p.next) {
		return
	}
	p.asking, p.next = true, time.Now().Add(proofEvery-askEvery/2)
	last, revision, from := at.last, at.revision, at.spans[0].from
	p.wg.Go(func() {
		var answer proof
		answer.err = timed(p.ctx, answerWithin, func(ctx context.Context) (err error) {
			answer.revision, err = prove(ctx, p.stream.conn, from, last, revision)
			return err
		})
		select {
		case p.answers <- answer:
		case <-p.ctx.Done():
		}
	})
}

// prove asks where etcd stands, and whether it still has last.
func prove(ctx context.Context, conn *grpc.ClientConn, from string, last event, revision int64) (int64, error) {
	req := &etcdserverpb.RangeRequest{Key: []byte(from), CountOnly: true}
	if last.Key != "" {
		req = &etcdserverpb.RangeRequest{Key: []byte(last.Key), Revision: last.Modified}
	}
	resp, err := etcdserverpb.NewKVClient(conn).Range(ctx, req)
	switch {
	case is(err, rpctypes.ErrGRPCCompacted):
		return 0, nil // it answers, and that is all
	case is(err, rpctypes.ErrGRPCFutureRev):
		return 0, errOther
	case err != nil:
		return 0, err
	case resp.Header.Revision < revision, last.Key != "" && !last.as(resp.Kvs):
		return 0, errOther
	}
	return resp.Header.Revision, nil
}

// take is what a proof says: that etcd answers, and that what it had at the proof
// before has come by now.
func (p *proofs) take(at *place) (backends.Change, error) {
	p.asking = false
	if p.last.err != nil {
		return backends.Change{}, p.last.err
	}
	allowed := noticeWithin
	if p.interval > 0 {
		allowed = missed*p.interval + answerWithin
	}
	if time.Since(p.at) > allowed {
		return backends.Change{}, errDead
	}
	out := new(batch)
	at.release(p.before, out)
	p.before = max(p.before, p.last.revision)
	c := out.change()
	c.Revision = at.revision
	return c, nil
}

// heard remembers when something came on the stream, and how often notices do.
func (p *proofs) heard(r *etcdserverpb.WatchResponse) {
	now := time.Now()
	notice := len(r.Events) == 0
	if notice && p.noticed && p.stream.watches == 1 {
		p.interval = now.Sub(p.at)
	}
	p.at, p.noticed = now, notice
}
