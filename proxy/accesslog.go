package proxy

import (
	"encoding/json"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"muster/proxy/balance"
)

// accessQueue is how many requests may wait to be written; more are dropped and
// counted. It is a queue and no slot, because each request wants its line.
const accessQueue = 4096

// accessBytes is how much is written in one go.
const accessBytes = 32 << 10

// An accessLog writes a line for each request, on a goroutine of its own, so
// that no request waits for a disk or a pipe.
type accessLog struct {
	w       io.Writer
	log     *slog.Logger
	format  atomic.Pointer[string] // of the plan
	queue   chan *[]byte           // lines
	spare   sync.Pool              // *[]byte
	done    chan struct{}          // closed when nothing is worth waiting for any more
	dropped atomic.Uint64
}

func newAccessLog(w io.Writer, log *slog.Logger) *accessLog {
	return &accessLog{w: w, log: log, queue: make(chan *[]byte, accessQueue), done: make(chan struct{})}
}

// take makes a line of r and queues it, if it is wanted and there is room.
func (a *accessLog) take(r *balance.Record) {
	format := a.format.Load()
	if a.w == nil || format == nil || *format == "" || *format == "off" {
		return
	}
	if len(a.queue) == cap(a.queue) {
		a.dropped.Add(1)
		return
	}
	line, _ := a.spare.Get().(*[]byte)
	if line == nil {
		line = new([]byte)
	}
	if *format == "json" {
		*line = appendJSON((*line)[:0], r)
	} else {
		*line = appendCombined((*line)[:0], r)
	}
	select {
	case a.queue <- line:
	default:
		a.dropped.Add(1)
		a.spare.Put(line)
	}
}

// close ends run once what was taken is written.
func (a *accessLog) close() { close(a.done) }

// run writes until close, what waits in one go. What can't be written counts as
// dropped.
func (a *accessLog) run() {
	var lines []byte
	var n uint64
	broken := false
	for {
		line := a.next()
		if line == nil {
			return
		}
		lines = append(lines, *line...)
		a.spare.Put(line)
		n++
		if len(a.queue) > 0 && len(lines) < accessBytes {
			continue
		}
		_, err := a.w.Write(lines)
		switch {
		case err != nil && !broken:
			a.log.Error("access log can't be written", "err", err)
		case err == nil && broken:
			a.log.Info("access log is written again")
		}
		if broken = err != nil; broken {
			a.dropped.Add(n)
		}
		lines, n = lines[:0], 0
	}
}

// next waits for a line; nil after the last.
func (a *accessLog) next() *[]byte {
	select {
	case line := <-a.queue:
		return line
	case <-a.done:
	}
	select {
	case line := <-a.queue:
		return line
	default:
		return nil
	}
}

// appendCombined writes r as Apache's combined format does.
func appendCombined(b []byte, r *balance.Record) []byte {
	b = append(b, r.Client...)
	b = append(b, " - - ["...)
	b = r.Time.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = appendEscaped(b, r.Method)
	b = append(b, ' ')
	b = appendEscaped(b, r.Target)
	b = append(b, ' ')
	b = append(b, r.Proto...)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(status(r)), 10)
	b = append(b, ' ')
	if r.Bytes == 0 {
		b = append(b, '-')
	} else {
		b = strconv.AppendInt(b, r.Bytes, 10)
	}
	for _, text := range [...]string{r.Referer, r.UserAgent} {
		b = append(b, ` "`...)
		if text == "" {
			b = append(b, '-')
		}
		b = appendEscaped(b, text)
		b = append(b, '"')
	}
	return append(b, '\n')
}

// status is what the client got, or 499 where it went away first.
func status(r *balance.Record) int {
	if r.Status == 0 {
		return balance.ClientGone.Answer().Status
	}
	return r.Status
}

// appendEscaped writes what came from outside so that it can't end the line or
// the quotes it stands in, nor move a terminal's cursor.
func appendEscaped(b []byte, text string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// A jsonLine is the JSON of one request. Times are in seconds.
type jsonLine struct {
	Time      time.Time `json:"time"`
	Client    string    `json:"client"`
	Peer      string    `json:"peer,omitempty"` // a trusted proxy that told of the client
	Method    string    `json:"method"`
	Host      string    `json:"host"`
	Target    string    `json:"target"`
	Proto     string    `json:"proto"`
	Status    int       `json:"status"`
	Bytes     int64     `json:"bytes"`
	Duration  float64   `json:"duration"`
	Head      float64   `json:"head,omitempty"`
	Connect   float64   `json:"connect,omitempty"`
	FirstByte float64   `json:"first_byte,omitempty"`
	Queued    float64   `json:"queued,omitempty"`
	Service   string    `json:"service,omitempty"`
	Endpoint  string    `json:"endpoint,omitempty"`
	Addr      string    `json:"addr,omitempty"`
	Tries     int       `json:"tries"`
	Reused    bool      `json:"reused,omitempty"` // the connection to the endpoint
	RequestID string    `json:"request_id"`
	End       string    `json:"end"`             // as in muster_request_ends_total
	Error     string    `json:"error,omitempty"` // as in Proxy-Status
	Reason    string    `json:"reason,omitempty"`
	Offset    int       `json:"offset,omitempty"` // in the request's head
	Referer   string    `json:"referer,omitempty"`
	UserAgent string    `json:"user_agent,omitempty"`
}

func appendJSON(b []byte, r *balance.Record) []byte {
	peer := r.Peer
	if peer == r.Client {
		peer = ""
	}
	line, err := json.Marshal(jsonLine{
		r.Time, r.Client, peer, r.Method, r.Host, r.Target, r.Proto, status(r), r.Bytes, r.Duration.Seconds(),
		r.Head.Seconds(), r.Connect.Seconds(), r.FirstByte.Seconds(), r.Queued.Seconds(),
		r.Service, r.Endpoint, r.Addr, r.Tries, r.Reused, r.RequestID, r.Why.String(), r.Why.Answer().Error, r.Reason, r.Offset, r.Referer, r.UserAgent,
	})
	if err != nil {
		panic("BUG: a record is always JSON: " + err.Error())
	}
	return append(append(b, line...), '\n')
}
