package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// patience is how long a client may take to read one event before it is dropped.
const patience = 10 * time.Second

// stream is server-sent events: first "full", a Status with its minute of
// history, then a "tick" after every sample, with the newest of each history
// only. Who reads too slowly for some of them gets a "full" again, and is
// dropped where it reads nothing: the sampler waits for nobody.
func (a *Admin) stream(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	out := http.NewResponseController(w)
	if err := out.SetReadDeadline(time.Time{}); err != nil {
		a.cfg.Log.Debug("admin: stream", "err", err)
		return
	}
	var sent uint64
	for {
		v, newer := a.view()
		event, data := "full", v.full
		if sent > 0 && v.number == sent+1 {
			event, data = "tick", v.tick
		}
		_ = out.SetWriteDeadline(time.Now().Add(a.patience)) // it could set the other
		if _, err := fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", v.number, event, data); err != nil {
			return
		}
		if out.Flush() != nil {
			return
		}
		sent = v.number
		select {
		case <-newer:
		case <-r.Context().Done():
			return
		case <-ctx.Done():
			return
		}
	}
}
