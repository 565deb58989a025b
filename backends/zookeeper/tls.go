package zookeeper

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"muster/internal/storeaddr"
)

// A secure is how connections get their TLS. A nil one is for those that have none.
type secure struct {
	conf  *tls.Config
	files storeaddr.TLS
}

func newSecure(files storeaddr.TLS) (*secure, error) {
	conf, err := files.Config()
	return &secure{conf, files}, err
}

// client is conn with TLS, whose hands are shaken at the first write.
func (s *secure) client(conn net.Conn, addr string) net.Conn {
	conf := s.conf.Clone()
	conf.ServerName, _, _ = net.SplitHostPort(addr)
	return tls.Client(conn, conf)
}

// explain adds what may be meant by a server that hangs up. TLS 1.3 refuses after
// the handshake, and its alert may get lost.
func (s *secure) explain(err error) error {
	hungUp := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
	if s == nil || s.files.Cert != "" || !hungUp {
		return err
	}
	return fmt.Errorf("%s (it may want a client certificate)", storeaddr.Reason(err))
}
