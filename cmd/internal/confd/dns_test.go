package confd

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A NameServer answers SRV questions over UDP, with what is told at the moment.
type NameServer struct {
	conn net.PacketConn
	done chan struct{}

	mu      sync.Mutex
	records map[string][]dnsmessage.SRVResource
	asked   int
}

// StartNameServer starts one that knows nothing; it ends with the test.
func StartNameServer(t testing.TB) *NameServer {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &NameServer{conn: conn, done: make(chan struct{}), records: make(map[string][]dnsmessage.SRVResource)}
	go s.run(t)
	t.Cleanup(func() { conn.Close(); <-s.done })
	return s
}

func (s *NameServer) run(t testing.TB) {
	defer close(s.done)
	packet := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFrom(packet)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		answer, err := s.answer(packet[:n])
		if err == nil {
			_, err = s.conn.WriteTo(answer, from)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func (s *NameServer) answer(packet []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	name := m.Questions[0].Name
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	records, ok := s.records[name.String()]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, r := range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeSRV, Class: dnsmessage.ClassINET},
			Body:   &r,
		})
	}
	return m.Pack()
}

// Set makes addrs the answer to name, the first the most wanted.
func (s *NameServer) Set(t testing.TB, name string, addrs ...string) {
	var records []dnsmessage.SRVResource
	for i, addr := range addrs {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, dnsmessage.SRVResource{
			Priority: uint16(i), Port: uint16(a.Port), Target: dnsmessage.MustNewName("localhost."),
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[name] = records
}

// Addr is where it listens.
func (s *NameServer) Addr() string { return s.conn.LocalAddr().String() }

func (s *NameServer) resolver() *net.Resolver { return ResolverAt(s.Addr()) }

// ResolverAt asks the name server at addr, whatever the system says.
func ResolverAt(addr string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", addr)
	}}
}
