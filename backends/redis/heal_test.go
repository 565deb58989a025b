package redis_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/redistest"
)

func TestServerKilledAndRestarted(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Do("SET", "/k/1", "a")
	r := follow(t, open(t, "redis://"+s.Addr(), nil), "/k")
	r.has("/k/1=a")
	s.Kill()
	r.fails("redis " + s.Addr() + ": ")
	time.Sleep(time.Second) // more attempts: they are no news
	s.Restart()
	s.Do("SET", "/k/2", "b")
	r.has("/k/1=a /k/2=b")
	r.counts(1, 2)
}

func TestConnectionsCutRefusedAndSwallowed(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	relay := etcdtest.NewRelay(t, s.Addr())
	s.Do("SET", "/k/1", "a")
	r := follow(t, open(t, "redis://"+relay.Addr(), nil), "/k")
	r.has("/k/1=a")

	relay.Cut()
	r.until("it is Full again", func() bool { return r.fulls == 2 })

	relay.Refuse()
	r.until("it is away", func() bool { return len(r.errors) == 2 })
	s.Do("SET", "/k/1", "b")
	relay.Heal()
	r.has("/k/1=b")

	relay.Blackhole()
	r.fails("no answer in time")
	s.Do("SET", "/k/1", "c")
	relay.Heal()
	r.has("/k/1=c")
	r.counts(3, 4)
}

func TestFrozenServerIsLeftForTheNext(t *testing.T) {
	a, b := redistest.Start(t, redistest.Config{}), redistest.Start(t, redistest.Config{})
	a.Do("SET", "/k", "a")
	b.Do("SET", "/k", "b")
	r := follow(t, open(t, "redis://127.0.0.1:1,"+a.Addr()+","+b.Addr(), nil), "/k")
	r.has("/k=a")
	r.counts(0, 1) // the first is away, which is no news while another answers
	a.Stop()
	defer a.Cont()
	r.has("/k=b")
	r.counts(1, 2)
}

// A real sentinel makes the replica the master when the master is killed.
func TestSentinelFailover(t *testing.T) {
	const password = "pass-word"
	master := redistest.Start(t, redistest.Config{Password: password, Flags: []string{"--masterauth", password}})
	host, port, _ := strings.Cut(master.Addr(), ":")
	replica := redistest.Start(t, redistest.Config{
		Password: password, Flags: []string{"--replicaof", host + " " + port, "--masterauth", password},
	})
	sentinel := redistest.Sentinel(t, "main", master)
	master.Do("SET", "/k/1", "a")
	url := "redis://:" + password + "@127.0.0.1:1," + sentinel + "?sentinel=main"
	r := follow(t, open(t, url, nil), "/k")
	r.has("/k/1=a")
	proctest.Eventually(t, "the replica has it", func() bool {
		got, _ := replica.Do("EXISTS", "/k/1").(int64)
		return got == 1
	})
	proctest.Eventually(t, "the sentinel knows the replica", func() bool {
		return strings.Contains(string(master.Do("INFO", "replication").([]byte)), "state=online") &&
			redistest.Replicas(t, sentinel, "main") == 1
	})
	master.Kill()
	r.fails("redis " + master.Addr() + ": ")
	r.until("the replica is followed", func() bool { return r.fulls == 2 })
	replica.Do("SET", "/k/1", "b")
	r.has("/k/1=b")

	for url, want := range map[string]string{
		"redis://:" + password + "@" + sentinel + "?sentinel=other": `redis sentinel ` + sentinel + `: it knows no master "other"`,
		"redis://:wrong@" + sentinel + "?sentinel=main":             "redis " + replica.Addr() + ": WRONGPASS",
		"redis://" + replica.Addr() + "?sentinel=main":              "redis sentinel " + replica.Addr() + ": NOAUTH",
	} {
		follow(t, open(t, url, nil), "/k").fails(want)
	}
}

func TestTLS(t *testing.T) {
	certs := etcdtest.NewCerts(t)
	s := redistest.Start(t, redistest.Config{Certs: &certs, Mutual: true})
	s.Do("SET", "/k/1", "a")
	pair := "&cert=" + certs.ClientCert + "&key=" + certs.ClientKey
	r := follow(t, open(t, "rediss://"+s.Addr()+"?ca="+certs.CA+pair, nil), "/k")
	r.has("/k/1=a")
	s.Do("SET", "/k/2", "b")
	r.has("/k/1=a /k/2=b")
	for url, want := range map[string]string{
		"rediss://" + s.Addr() + "?ca=" + certs.CA: "certificate", // required, or it may want one
		"rediss://" + s.Addr() + "?" + pair[1:]:    "certificate signed by unknown authority",
		"redis://" + s.Addr():                      "redis " + s.Addr() + ": ",
	} {
		follow(t, open(t, url, nil), "/k").fails(want)
	}
}

func TestSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "redis.sock")
	s := redistest.Start(t, redistest.Config{Flags: []string{"--unixsocket", socket}})
	s.Do("SET", "/k/1", "a")
	r := follow(t, newStore(t, socket), "/k")
	r.has("/k/1=a")
	s.Do("SET", "/k/1", "b")
	r.has("/k/1=b")
}

// The rights of docs/stores.md are enough, and what is missing without them is
// said.
func TestRights(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	user := func(name string, rules ...any) string {
		s.Do("ACL", append([]any{"SETUSER", name, "on", ">pass", "resetkeys", "resetchannels"}, rules...)...)
		return "redis://" + name + ":pass@" + s.Addr()
	}
	enough := []any{"+@connection", "+scan", "+type", "+get", "+hgetall", "+exists", "+multi", "+exec", "+subscribe", "+psubscribe", "+ping"}
	s.Do("SET", "/k/1", "a")
	s.Do("SET", "/k", "not allowed")

	var log logbook
	r := follow(t, open(t, user("all", append(enough, "~/k/*", "&__keyspace@0__:/k", "&__keyspace@0__:/k/*", "+config|get")...), log.logger()), "/k")
	r.has("/k/1=a")
	if got := log.count("WARN"); got != 0 {
		t.Errorf("the log warns %d times, want none: %s", got, &log.text)
	}
	s.Do("SET", "/k/1", "b")
	r.has("/k/1=b")

	for _, c := range []struct {
		name  string
		rules []any
		want  string
	}{
		{"noconfig", []any{"~/k*", "allchannels"}, "its setting can't be read, changes arrive at once if it tells of them: NOPERM"},
		{"nochannel", []any{"~/k*", "+config|get"}, "allow the user the channels __keyspace@0__:/k __keyspace@0__:/k/*, or all: NOPERM"},
	} {
		var log logbook
		r := follow(t, open(t, user(c.name, append(enough, c.rules...)...), log.logger()), "/k")
		r.until("it is there", func() bool { return r.keys["/k/1"] != "" })
		s.Do("SET", "/k/1", c.name)
		r.until("it changed", func() bool { return r.keys["/k/1"] == c.name })
		if got := log.count(c.want); got != 1 {
			t.Errorf("%s: the log says %q %d times, want 1", c.name, c.want, got)
		}
	}
	follow(t, open(t, user("nokeys", append(enough, "~/other*", "&*", "+config|get")...), nil), "/k").fails(`key "/k/1": NOPERM`)
	follow(t, open(t, "redis://all:wrong@"+s.Addr(), nil), "/k").fails("redis " + s.Addr() + ": WRONGPASS invalid username-password pair")
	follow(t, open(t, "redis://"+s.Addr()+"/99", nil), "/k").fails("redis " + s.Addr() + ": ERR DB index is out of range")
}
