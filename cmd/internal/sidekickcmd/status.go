package sidekickcmd

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A statusServer serves a sidekick's status until close.
type statusServer struct {
	srv http.Server
	wg  sync.WaitGroup
}

// serveStatus listens at where, unix:PATH or HOST:PORT.
func serveStatus(where string, h http.Handler) (*statusServer, error) {
	l, err := listenStatus(where)
	if err != nil {
		return nil, err
	}
	s := &statusServer{srv: http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute}}
	s.wg.Go(func() { _ = s.srv.Serve(l) }) // it ends by close
	return s, nil
}

func (s *statusServer) close() {
	_ = s.srv.Close()
	s.wg.Wait()
}

func listenStatus(where string) (net.Listener, error) {
	path, ok := strings.CutPrefix(where, "unix:")
	if !ok {
		return net.Listen("tcp", where)
	}
	l, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	// It was left by a process that was killed, or is in use.
	conn, dialErr := net.Dial("unix", path)
	if dialErr == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: another process listens there", where)
	}
	if info, statErr := os.Lstat(path); statErr != nil || info.Mode().Type() != os.ModeSocket {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}
