package portable

import (
	"time"

	"muster/proxy/balance"
)

// queue waits until an upstream may have the request.
func (x *exchange) queue() balance.Move {
	place := x.service.Queue()
	if place == nil {
		return balance.Move{Kind: balance.Busy}
	}
	defer place.Leave()
	began := x.now
	limit := time.NewTimer(x.service.QueueTime)
	defer limit.Stop()
	for {
		kind := balance.OK
		select {
		case <-place.Ready():
		case <-limit.C:
			kind = balance.Busy
		case <-x.conn.base.Done():
			kind = balance.ClientGone // cut off while draining
		}
		x.now = time.Now()
		x.record.Queued = x.now.Sub(began)
		if kind != balance.OK {
			return balance.Move{Kind: kind}
		}
		x.renew()
		if move := x.attempts.Renew(x.service, balance.NoEndpoint); move.Kind != balance.Busy {
			return move
		}
	}
}
