package zookeeper_test

import (
	"testing"
	"time"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/zktest"
)

func TestServerKilledAndRestarted(t *testing.T) {
	s := zktest.Start(t)
	s.Put("/k/1", "a")
	r := follow(t, open(t, "zk://"+s.Addr(), nil), "/k")
	r.has("/k/1=a")
	s.Kill()
	r.fails("zookeeper " + s.Addr() + ": ")
	time.Sleep(time.Second) // more attempts: they are no news
	s.Restart()
	s.Put("/k/2", "b")
	r.has("/k/1=a /k/2=b")
	r.counts(1, 2)
}

func TestConnectionsCutRefusedAndSwallowed(t *testing.T) {
	s := zktest.Start(t)
	relay := etcdtest.NewRelay(t, s.Addr())
	s.Put("/k/1", "a")
	r := follow(t, open(t, "zk://"+relay.Addr(), nil), "/k")
	r.has("/k/1=a")

	relay.Cut()
	r.until("it is Full again", func() bool { return r.fulls == 2 })

	relay.Refuse()
	r.until("it is away", func() bool { return len(r.errors) == 2 })
	s.Put("/k/1", "b")
	relay.Heal()
	r.has("/k/1=b")
	r.counts(2, 3)
}

// The connection is gone without a word for so long that the server ends the
// session with all its watches.
func TestSessionExpires(t *testing.T) {
	s := zktest.Start(t)
	relay := etcdtest.NewRelay(t, s.Addr())
	s.Put("/k/1", "a")
	r := follow(t, open(t, "zk://"+relay.Addr(), nil), "/k")
	r.has("/k/1=a")
	relay.Blackhole()
	r.fails("zookeeper " + relay.Addr() + ": no answer in time")
	proctest.Eventually(t, "the server ends the session", func() bool { return s.Sessions() == 0 })
	s.Put("/k/1", "b")
	s.Put("/k/2", "c")
	relay.Heal()
	r.has("/k/1=b /k/2=c")
	s.Put("/k/2", "d") // it is watched again
	r.has("/k/1=b /k/2=d")
	r.counts(1, 2)
}

func TestFrozenServerIsLeftForTheNext(t *testing.T) {
	a, b := zktest.Start(t), zktest.Start(t)
	a.Put("/k", "a")
	b.Put("/k", "b")
	r := follow(t, open(t, "zk://127.0.0.1:1,"+a.Addr()+","+b.Addr(), nil), "/k")
	r.has("/k=a")
	r.counts(0, 1) // the first is away, which is no news while another answers
	a.Stop()
	defer a.Cont()
	r.has("/k=b")
	r.counts(1, 2)
}

func TestNobodyThere(t *testing.T) {
	r := follow(t, open(t, "zk://127.0.0.1:1,127.0.0.1:2", nil), "/k")
	r.fails("zookeeper 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused; zookeeper 127.0.0.1:2: dial tcp")
	time.Sleep(time.Second)
	r.counts(1, 0)
}
