package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/gomodule/redigo/redis"

	"muster/backends"
	"muster/internal/storeaddr"
)

// A node is one configured address: of a server, or of a sentinel that knows
// where the server is.
type node struct {
	network, addr    string
	db               int
	user, password   string
	secure           bool
	files            storeaddr.TLS
	tls              *tls.Config // once prepared, where secure
	master           string      // not empty: addr is a sentinel, and this the server it is asked for
	sentinelPassword string
}

func (n *node) prepare() (err error) {
	if n.secure {
		n.tls, err = n.files.Config()
	}
	return err
}

// dial connects and logs in. It returns where the connection leads to: a
// sentinel knows another address than its own. Errors name theirs.
func (n *node) dial(ctx context.Context) (conn redis.Conn, addr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	server := *n
	if n.master != "" {
		if server.addr, err = n.ask(ctx); err != nil {
			return nil, n.addr, &Error{"redis sentinel " + n.addr, err}
		}
	}
	if conn, err = server.login(ctx, server.user, server.password, server.db); err != nil {
		return nil, server.addr, &Error{"redis " + server.addr, err}
	}
	err = standsAlone(conn)
	if err == nil && n.master != "" {
		err = isMaster(conn)
	}
	if err != nil {
		conn.Close()
		return nil, server.addr, &Error{"redis " + server.addr, err}
	}
	return conn, server.addr, nil
}

func (n *node) login(ctx context.Context, user, password string, db int) (redis.Conn, error) {
	dial := (&net.Dialer{Timeout: answerWithin}).DialContext
	if n.tls != nil {
		dial = (&tls.Dialer{Config: n.tls}).DialContext // until ctx ends
	}
	conn, err := redis.DialContext(ctx, n.network, n.addr,
		redis.DialContextFunc(dial),
		redis.DialReadTimeout(answerWithin), redis.DialWriteTimeout(answerWithin),
		redis.DialUsername(user), redis.DialPassword(password), redis.DialDatabase(db),
		redis.DialClientName("muster"))
	if n.tls != nil && n.files.Cert == "" && isReset(err) {
		// TLS 1.3 refuses after the handshake, and its alert may get lost.
		return nil, fmt.Errorf("%w (it may want a client certificate)", err)
	}
	return conn, err
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}

// read lists what is wanted.
func (n *node) read(ctx context.Context, w *wanted) (map[string][]backends.KV, error) {
	conn, addr, err := n.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer closeWith(ctx, conn)()
	all, err := list(conn, w)
	if err != nil {
		return nil, &Error{"redis " + addr, err}
	}
	return all, nil
}

// ask asks the sentinel where the master is.
func (n *node) ask(ctx context.Context) (addr string, err error) {
	conn, err := n.login(ctx, "", n.sentinelPassword, 0)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	found, err := redis.Strings(conn.Do("SENTINEL", "get-master-addr-by-name", n.master))
	switch {
	case errors.Is(err, redis.ErrNil) || err == nil && len(found) != 2:
		return "", fmt.Errorf("it knows no master %q", n.master)
	case err != nil:
		return "", err
	}
	return net.JoinHostPort(found[0], found[1]), nil
}

// standsAlone keeps us from a node of a cluster, which has a part of the keys: a list
// of its own would look whole. A server that does not say what it is, is none: HELLO
// came with Redis 6, and may not be allowed.
func standsAlone(conn redis.Conn) error {
	hello, err := redis.Values(conn.Do("HELLO", "2"))
	if _, said := errors.AsType[redis.Error](err); said {
		return nil
	}
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(hello); i += 2 {
		name, _ := redis.String(hello[i], nil)
		mode, _ := redis.String(hello[i+1], nil)
		if name == "mode" && mode == "cluster" {
			return errCluster
		}
	}
	return nil
}

// errCluster is a node that can't be a store.
var errCluster = errors.New("it is a node of a Redis Cluster, which has a part of the keys only (it answers MOVED for others): want a Redis that has them all, or sentinels")

// isMaster keeps us from following a server that sentinels have just replaced.
func isMaster(conn redis.Conn) error {
	role, err := redis.Values(conn.Do("ROLE"))
	if err != nil {
		return err
	}
	if kind, err := redis.String(role[0], nil); err != nil || kind != "master" {
		return fmt.Errorf("it is a %s, not the master", kind)
	}
	return nil
}

// An Error is Redis's, or of the way to it, with the address it came from.
type Error struct {
	Where string // "redis HOST:PORT"
	Err   error
}

func (e *Error) Error() string { return e.Where + ": " + storeaddr.Reason(e.Err) }
func (e *Error) Unwrap() error { return e.Err }
