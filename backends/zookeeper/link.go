package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"muster/internal/storeaddr"
)

const (
	// answerWithin is how long a server may take to answer before it is given up
	// for the next one.
	answerWithin = 3 * time.Second

	// sessionTimeout is what is asked for. A session outlives no connection, so
	// it only says how long ZooKeeper keeps one whose client was killed.
	sessionTimeout = 10 * time.Second

	// sendBuffer is enough for the requests that are made, none larger than a
	// path. The library's own choice is 1.5 MB.
	sendBuffer = 128 << 10
)

var errSilent = errors.New("no answer in time")

// A link is one connection with its session. The library would go on by itself
// with another connection and the same session; a link does not, so that every
// break is seen.
type link struct {
	addr   string
	secure *secure // nil: without TLS
	conn   *zk.Conn
	all    <-chan zk.Event // closed when the library has ended
	log    *slog.Logger

	up   chan struct{} // closed when there is a session
	down chan struct{} // closed when it broke, of err
	news chan struct{} // holds one token while fired has nodes

	mu    sync.Mutex // guards what follows
	net   net.Conn
	err   error
	fired map[string]armed // the watches that fired, by node
}

// connect returns a link with a session.
func connect(ctx context.Context, addr, digest string, secure *secure, log *slog.Logger) (*link, error) {
	l := &link{
		addr: addr, secure: secure, log: log, fired: make(map[string]armed),
		up: make(chan struct{}), down: make(chan struct{}), news: make(chan struct{}, 1),
	}
	var err error
	l.conn, l.all, err = zk.Connect([]string{addr}, sessionTimeout,
		zk.WithHostProvider(&oneHost{addr: addr}), zk.WithDialer(l.dial), zk.WithEventCallback(l.event),
		zk.WithLogger(l), zk.WithLogInfo(false), zk.WithMaxConnBufferSize(sendBuffer))
	if err != nil {
		return nil, &Error{addr, err}
	}
	within := answerWithin
	if secure != nil {
		within += answerWithin // for the handshake
	}
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-l.up:
		if digest == "" {
			return l, nil
		}
		if err = l.do(func() error { return l.conn.AddAuth("digest", []byte(digest)) }); err == nil {
			return l, nil
		}
	case <-l.down:
		err = &Error{addr, l.err}
	case <-late.C:
		err = &Error{addr, errSilent}
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.close()
	return nil, err
}

// do calls the server. Silence is a break.
func (l *link) do(call func() error) error {
	late := time.AfterFunc(answerWithin, func() { l.fail(errSilent) })
	err := call()
	late.Stop()
	if errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrNoServer) || errors.Is(err, zk.ErrClosing) {
		l.fail(err)
	}
	select {
	case <-l.down:
		return &Error{l.addr, l.err}
	default:
		return err
	}
}

// fail is the break. The first reason counts.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = err
	if l.net != nil {
		l.net.Close()
	}
	close(l.down)
}

// close ends the session, if it can, and the connection.
func (l *link) close() {
	l.conn.Close()
	l.fail(zk.ErrClosing)
	for range l.all {
		// Until the library's goroutines have ended.
	}
}

// dial is for the library. There is one connection only.
func (l *link) dial(network, addr string, _ time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout(network, addr, answerWithin)
	if err != nil {
		l.fail(err)
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.net != nil || l.err != nil {
		conn.Close()
		return nil, zk.ErrConnectionClosed
	}
	l.net = conn
	if l.secure != nil {
		return tapped{l.secure.client(conn, addr), l}, nil
	}
	return tapped{conn, l}, nil
}

// event is for the library, on the goroutine that reads: what it tells of a node
// comes before the answers that ZooKeeper gave after it.
func (l *link) event(ev zk.Event) {
	switch {
	case ev.State == zk.StateHasSession && ev.Type == zk.EventSession:
		select {
		case <-l.up:
		default:
			close(l.up)
		}
	case ev.Type == zk.EventSession && (ev.State == zk.StateDisconnected || ev.State == zk.StateExpired || ev.State == zk.StateAuthFailed):
		l.fail(fmt.Errorf("session: %v", ev.State))
	case ev.Type == zk.EventNodeCreated, ev.Type == zk.EventNodeDeleted:
		l.fire(ev.Path, data|children)
	case ev.Type == zk.EventNodeDataChanged:
		l.fire(ev.Path, data)
	case ev.Type == zk.EventNodeChildrenChanged:
		l.fire(ev.Path, children)
	}
}

func (l *link) fire(path string, what armed) {
	l.mu.Lock()
	l.fired[path] |= what
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// take returns the watches that fired.
func (l *link) take() map[string]armed {
	l.mu.Lock()
	defer l.mu.Unlock()
	fired := l.fired
	l.fired = make(map[string]armed)
	select {
	case <-l.news:
	default:
	}
	return fired
}

// Printf is for the library, whose lines have a form of their own.
func (l *link) Printf(format string, args ...any) {
	l.log.Debug(fmt.Sprintf(format, args...), "store", "zookeeper "+l.addr)
}

// A tapped connection tells its link why it broke, which the library does not.
type tapped struct {
	net.Conn
	link *link
}

func (t tapped) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if err != nil {
		t.link.fail(t.link.secure.explain(err))
	}
	return n, err
}

// Write shakes hands first, where there is TLS: what is wrong with that is what the
// link breaks of.
func (t tapped) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	if err != nil && t.link.secure != nil {
		t.link.fail(t.link.secure.explain(err))
	}
	return n, err
}

// oneHost is a list of servers with one in it, which the library need not look
// up: the dialer does.
type oneHost struct {
	addr string
	used bool
}

func (h *oneHost) Init([]string) error { return nil }
func (h *oneHost) Len() int            { return 1 }
func (h *oneHost) Connected()          {}

// Next makes the library pause before it tries again, which is until it is
// closed.
func (h *oneHost) Next() (server string, pause bool) {
	pause, h.used = h.used, true
	return h.addr, pause
}

// An Error is ZooKeeper's, or of the way to it, with the address it came from.
type Error struct {
	Addr string // HOST:PORT
	Err  error
}

func (e *Error) Error() string { return "zookeeper " + e.Addr + ": " + storeaddr.Reason(e.Err) }
func (e *Error) Unwrap() error { return e.Err }
