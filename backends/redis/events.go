package redis

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
)

// needed are the classes of events without which a change may go unseen: those
// of keyspaces, of all types, of strings and of hashes, expired and evicted.
const needed = "Kg$hxe"

// tellsAll reports whether that value of notify-keyspace-events is enough. "A" is
// all classes, but neither of the two kinds.
func tellsAll(setting string) bool {
	for _, class := range needed {
		if !strings.ContainsRune(setting, class) && (class == 'K' || !strings.Contains(setting, "A")) {
			return false
		}
	}
	return true
}

// events is a connection of its own that Redis tells which keys changed. One
// goroutine reads it and does nothing else, so that Redis never has to wait: what
// nobody has taken yet is a set of keys.
type events struct {
	conn redis.PubSubConn
	cut  int           // what stands before the key in a channel's name
	news chan struct{} // holds one token while dirty has keys
	pong chan struct{} // the answer to take's ping
	left chan struct{} // closed when nobody wants more
	done chan struct{} // closed when the connection has ended, of err
	err  error

	mu    sync.Mutex // guards dirty
	dirty map[string]struct{}
}

// channels are what to subscribe to for what is wanted, one by one and by
// pattern.
func (w *wanted) channels(db int) (exact, patterns []string) {
	space := keyspace(db)
	for raw := range w.exact {
		exact = append(exact, space+raw)
	}
	for _, pattern := range w.patterns() {
		patterns = append(patterns, space+pattern)
	}
	slices.Sort(exact)
	return exact, patterns
}

func keyspace(db int) string { return fmt.Sprintf("__keyspace@%d__:", db) }

// subscribe asks for the news of what is wanted, and returns when it comes.
func subscribe(conn redis.Conn, w *wanted, db int) (*events, error) {
	e := &events{
		conn: redis.PubSubConn{Conn: conn}, cut: len(keyspace(db)), dirty: make(map[string]struct{}),
		news: make(chan struct{}, 1), pong: make(chan struct{}), left: make(chan struct{}), done: make(chan struct{}),
	}
	exact, patterns := w.channels(db)
	if err := e.subscribe("SUBSCRIBE", exact); err != nil {
		return nil, err
	}
	if err := e.subscribe("PSUBSCRIBE", patterns); err != nil {
		return nil, err
	}
	go e.run()
	return e, nil
}

func (e *events) subscribe(command string, channels []string) error {
	if len(channels) == 0 {
		return nil
	}
	if err := e.conn.Conn.Send(command, redis.Args{}.AddFlat(channels)...); err != nil {
		return err
	}
	if err := e.conn.Conn.Flush(); err != nil {
		return err
	}
	for confirmed := 0; confirmed < len(channels); {
		switch reply := e.conn.Receive().(type) {
		case error:
			return reply
		case redis.Subscription:
			confirmed++
		case redis.Message:
			e.add(reply.Channel[min(e.cut, len(reply.Channel)):])
		}
	}
	return nil
}

func (e *events) run() {
	defer close(e.done)
	for {
		// The watch pings twice a second and gives up without an answer.
		switch reply := e.conn.ReceiveWithTimeout(time.Minute).(type) {
		case error:
			e.err = reply
			return
		case redis.Message:
			e.add(reply.Channel[min(e.cut, len(reply.Channel)):])
		case redis.Pong:
			select {
			case e.pong <- struct{}{}:
			case <-e.left:
				return
			}
		}
	}
}

func (e *events) add(key string) {
	e.mu.Lock()
	e.dirty[key] = struct{}{}
	e.mu.Unlock()
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// take returns the keys that changed until now: Redis was asked, and has told of
// everything that happened before it answered.
func (e *events) take() ([]string, error) {
	if err := e.conn.Ping(""); err != nil {
		<-e.done // which closed the connection, or was ended with it
		if errors.Is(err, net.ErrClosed) {
			err = e.err
		}
		return nil, err
	}
	late := time.NewTimer(answerWithin)
	defer late.Stop()
	select {
	case <-e.pong:
	case <-e.done:
		return nil, e.err
	case <-late.C:
		return nil, errSilent
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	keys := slices.Sorted(maps.Keys(e.dirty))
	clear(e.dirty)
	select {
	case <-e.news:
	default:
	}
	return keys, nil
}

func (e *events) close() {
	close(e.left)
	e.conn.Close()
	<-e.done
}

var errSilent = errors.New("no answer in time")
