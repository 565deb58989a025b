package zookeeper_test

import (
	"testing"
	"time"

	"muster/backends/backendtest"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/zktest"
)

func TestServerKilledAndRestarted(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/k/1", "a")
	r := backendtest.NewReader(t, open(t, "zk://"+s.Addr(), nil), "/k")
	r.Has("/k/1=a")
	s.Kill()
	r.Fails("zookeeper " + s.Addr() + ": ")
	time.Sleep(time.Second) // more attempts: they are no news
	s.Restart()
	s.Put("/k/2", "b")
	r.Has("/k/1=a /k/2=b")
	r.Counts(1, 2)
}

func TestConnectionsCutRefusedAndSwallowed(t *testing.T) {
	s := zktest.Start(t)
	relay := etcdtest.NewRelay(t, s.Addr())
	s.Put("/k/1", "a")
	r := backendtest.NewReader(t, open(t, "zk://"+relay.Addr(), nil), "/k")
	r.Has("/k/1=a")

	relay.Cut()
	r.Until("it is Full again", func() bool { return r.Fulls == 2 })

	relay.Refuse()
	r.Until("it is away", func() bool { return len(r.Errors) == 2 })
	s.Put("/k/1", "b")
	relay.Heal()
	r.Has("/k/1=b")
	r.Counts(2, 3)
}

// The connection is gone without a word for so long that the server ends the
// session with all its watches.
func TestSessionExpires(t *testing.T) {
	s := zktest.Start(t)
	relay := etcdtest.NewRelay(t, s.Addr())
	s.Put("/k/1", "a")
	r := backendtest.NewReader(t, open(t, "zk://"+relay.Addr(), nil), "/k")
	r.Has("/k/1=a")
	relay.Blackhole()
	r.Fails("zookeeper " + relay.Addr() + ": no answer in time")
	proctest.Eventually(t, "the server ends the session", func() bool { return s.Sessions() == 0 })
	s.Put("/k/1", "b")
	s.Put("/k/2", "c")
	relay.Heal()
	r.Has("/k/1=b /k/2=c")
	s.Put("/k/2", "d") // it is watched again
	r.Has("/k/1=b /k/2=d")
	r.Counts(1, 2)
}

func TestFrozenServerIsLeftForTheNext(t *testing.T) {
	a, b := zktest.Start(t), zktest.Start(t)
	a.Put("/k", "a")
	b.Put("/k", "b")
	r := backendtest.NewReader(t, open(t, "zk://127.0.0.1:1,"+a.Addr()+","+b.Addr(), nil), "/k")
	r.Has("/k=a")
	r.Counts(0, 1) // the first is away, which is no news while another answers
	a.Stop()
	defer a.Cont()
	r.Has("/k=b")
	r.Counts(1, 2)
}

func TestNobodyThere(t *testing.T) {
	r := backendtest.NewReader(t, open(t, "zk://127.0.0.1:1,127.0.0.1:2", nil), "/k")
	r.Fails("zookeeper 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused; zookeeper 127.0.0.1:2: dial tcp")
	time.Sleep(time.Second)
	r.Counts(1, 0)
}
