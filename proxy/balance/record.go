package balance

import "time"

// A Record is one request as the access log shows it. It and its strings are
// the driver's, which uses their memory again.
type Record struct {
	Time      time.Time // when its head had been read
	Client    string    // address without port
	Peer      string    // who connected: Client, or a trusted proxy that told of it
	Method    string
	Target    string // as sent, query included
	Proto     string // HTTP/1.1
	Host      string
	Referer   string
	UserAgent string
	RequestID string

	Status    int   // 0: the client went away before an answer
	Bytes     int64 // of the answer's body
	Duration  time.Duration
	Head      time.Duration // before Time, from the head's first byte on
	Connect   time.Duration // of Duration, for a new connection to the endpoint that was tried last
	Reused    bool          // the connection to that had carried a request before
	Queued    time.Duration // of that, waiting for an upstream that may have another request
	FirstByte time.Duration // until the answer's head; 0: none came

	Service  string
	Endpoint string // ID of the endpoint that was tried last
	Addr     string // its address
	Tries    int
	Why      Kind   // OK where an endpoint's answer was passed on whole
	Reason   string // what was wrong with a message, more exactly than Why; or ""
	Offset   int    // where in a request's head that was found
}
