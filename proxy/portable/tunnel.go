package portable

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"muster/proxy/balance"
)

// switchOver passes a 101 on, and from then on bytes both ways.
func (x *exchange) switchOver(head []byte) balance.Kind {
	res, c := x.res, x.conn
	x.helper.stop(x)
	x.prepareReply()
	res.out = res.AppendHead(res.out[:0], head, &x.reply)
	res.out = append(res.out, x.in.bytes()...)
	x.record.Bytes = int64(x.in.len())
	x.in.release()
	x.record.Status = res.Status
	x.record.FirstByte = time.Since(x.record.Time)
	x.began, x.tunnel = true, true
	if kind := x.toClient(res.out); kind != balance.OK {
		return kind
	}
	t := &tunnel{client: c.sock, upstream: x.up, silence: x.service.Tunnel}
	t.last.Store(time.Now().UnixNano())
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Bytes behind the handshake have waited for the answer.
		t.pump(x.up.socket, c.sock, &c.in)
	}()
	x.record.Bytes += t.pump(c.sock, x.up.socket, &x.in)
	<-done
	return balance.OK
}

// A tunnel carries bytes both ways.
type tunnel struct {
	client   *socket
	upstream *upstream
	silence  time.Duration // both ways
	last     atomic.Int64  // when a byte was carried, either way
	half     atomic.Bool   // one direction has ended
}

// limit is when the tunnel ends, if nothing is carried until then.
func (t *tunnel) limit() time.Time {
	silence := t.silence
	if t.half.Load() {
		silence = min(silence, tunnelHalf)
	}
	return time.Unix(0, t.last.Load()).Add(silence)
}

// cut ends both directions.
func (t *tunnel) cut() {
	t.client.Close()
	t.upstream.Close()
}

// pump carries bytes from one side to the other, first those that in has, until
// that side ends. It returns how many.
func (t *tunnel) pump(to, from *socket, in *buffer) (carried int64) {
	defer in.release()
	for {
		if in.len() > 0 {
			n, err := to.write(in.bytes(), t.silence)
			carried += int64(n)
			if err != nil {
				t.cut()
				return carried
			}
			t.last.Store(time.Now().UnixNano())
		}
		in.release()
		_, err := from.read(in, largeBlock, time.Now(), t.limit())
		switch {
		case err == nil, err == errWoken:
		case isTimeout(err) && time.Now().Before(t.limit()):
		case err == io.EOF:
			t.half.Store(true)
			t.last.Store(time.Now().UnixNano())
			if to.closeWrite() != nil {
				t.cut()
			}
			to.wake() // it has less time now
			return carried
		default:
			if !errors.Is(err, net.ErrClosed) {
				t.cut()
			}
			return carried
		}
	}
}
