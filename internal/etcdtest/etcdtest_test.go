package etcdtest_test

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/internal/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 60 * time.Second

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func get(t *testing.T, s *etcdtest.Server, key string) string {
	t.Helper()
	resp, err := s.Client().Get(within(t), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func put(t *testing.T, s *etcdtest.Server, key, value string) {
	t.Helper()
	if _, err := s.Client().Put(within(t), key, value); err != nil {
		t.Fatal(err)
	}
}

func TestRestartKeepsDataAndWipeLosesThem(t *testing.T) {
	s := etcdtest.Start(t)
	addr := s.Addr()
	put(t, s, "k", "v")
	s.Kill()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Fatalf("%s still answers after Kill", addr)
	}
	s.Restart()
	if got := get(t, s, "k"); got != "v" || s.Addr() != addr {
		t.Errorf("after Restart: got %q at %s, want v at %s", got, s.Addr(), addr)
	}
	s.Wipe()
	s.Restart()
	if got := get(t, s, "k"); got != "" {
		t.Errorf("after Wipe: got %q, want nothing", got)
	}
}

func TestStopFreezes(t *testing.T) {
	s := etcdtest.Start(t)
	put(t, s, "k", "v")
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := s.Client().Get(ctx, "k"); err == nil {
		t.Error("a stopped etcd answered")
	}
	s.Cont()
	if got := get(t, s, "k"); got != "v" {
		t.Errorf("after Cont: got %q, want v", got)
	}
}

func TestTLSAndAuth(t *testing.T) {
	certs := etcdtest.NewCerts(t)
	s := etcdtest.Start(t, etcdtest.MutualTLS(certs), etcdtest.Auth("u", "p", "/a/"))
	put(t, s, "/a/k", "v")
	if got := get(t, s, "/a/k"); got != "v" {
		t.Errorf("got %q, want v", got)
	}
	s.Restart()
	if got := get(t, s, "/a/k"); got != "v" {
		t.Errorf("after Restart: got %q, want v", got)
	}
}

func TestClusterOfThreeOutlivesOne(t *testing.T) {
	s := etcdtest.Cluster(t, 3)
	put(t, s[0], "k", "v")
	s[1].Kill()
	for ctx := within(t); ; { // it may have been the leader
		if _, err := s[0].Client().Put(ctx, "k", "w"); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if got := get(t, s[2], "k"); got != "w" {
		t.Errorf("got %q, want w", got)
	}
}

func TestRelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // echoes
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					_, _ = c.Write(buf[:n])
				}
			}()
		}
	}()
	r := etcdtest.NewRelay(t, l.Addr().String())
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	say := func(c net.Conn, wait time.Duration) error {
		_, _ = c.Write([]byte("x"))
		_ = c.SetReadDeadline(time.Now().Add(wait))
		_, err := c.Read(make([]byte, 1))
		return err
	}
	c := dial()
	if err := say(c, patience); err != nil {
		t.Fatalf("through the relay: %v", err)
	}
	r.Cut()
	if err := say(c, patience); err == nil {
		t.Error("Cut: the connection lives on")
	}
	c = dial()
	if err := say(c, patience); err != nil {
		t.Errorf("after Cut: %v", err)
	}
	r.Blackhole()
	if err := say(c, 200*time.Millisecond); err == nil {
		t.Error("Blackhole: an answer came")
	} else if e, ok := err.(net.Error); !ok || !e.Timeout() {
		t.Errorf("Blackhole: got %v, want silence", err)
	}
	r.Heal()
	if err := say(c, patience); err == nil {
		t.Error("Heal: the connection that lost bytes lives on")
	}
	if err := say(dial(), patience); err != nil {
		t.Errorf("after Heal: %v", err)
	}
	r.Refuse()
	if c, err := net.Dial("tcp", r.Addr()); err == nil {
		c.Close()
		t.Error("Refuse: connected")
	}
	r.Heal()
	if err := say(dial(), patience); err != nil {
		t.Errorf("after Refuse and Heal: %v", err)
	}
}

// A server that is too busy to greet a new connection at once is waited for.
func TestClientWaitsForABusyServer(t *testing.T) {
	s := etcdtest.Start(t)
	s.Stop() // the kernel takes the connection
	client, done := s.Client(), make(chan error, 1)
	go func() {
		_, err := client.Put(within(t), "k", "v")
		done <- err
	}()
	time.Sleep(300 * time.Millisecond)
	s.Cont()
	if err := <-done; err != nil {
		t.Errorf("Put: %v", err)
	}
}
