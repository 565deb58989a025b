package redis_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/backends/backendtest"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/redistest"
)

func TestServerKilledAndRestarted(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Do("SET", "/k/1", "a")
	r := backendtest.NewReader(t, open(t, "redis://"+s.Addr(), nil), "/k")
	r.Has("/k/1=a")
	s.Kill()
	r.Fails("redis " + s.Addr() + ": ")
	time.Sleep(time.Second) // more attempts: they are no news
	s.Restart()
	s.Do("SET", "/k/2", "b")
	r.Has("/k/1=a /k/2=b")
	r.Counts(1, 2)
}

func TestConnectionsCutRefusedAndSwallowed(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	relay := etcdtest.NewRelay(t, s.Addr())
	s.Do("SET", "/k/1", "a")
	r := backendtest.NewReader(t, open(t, "redis://"+relay.Addr(), nil), "/k")
	r.Has("/k/1=a")

	relay.Cut()
	r.Until("it is Full again", func() bool { return r.Fulls == 2 })

	relay.Refuse()
	r.Until("it is away", func() bool { return len(r.Errors) == 2 })
	s.Do("SET", "/k/1", "b")
	relay.Heal()
	r.Has("/k/1=b")

	relay.Blackhole()
	r.Fails("no answer in time")
	s.Do("SET", "/k/1", "c")
	relay.Heal()
	r.Has("/k/1=c")
	r.Counts(3, 4)
}

func TestFrozenServerIsLeftForTheNext(t *testing.T) {
	a, b := redistest.Start(t, redistest.Config{}), redistest.Start(t, redistest.Config{})
	a.Do("SET", "/k", "a")
	b.Do("SET", "/k", "b")
	r := backendtest.NewReader(t, open(t, "redis://127.0.0.1:1,"+a.Addr()+","+b.Addr(), nil), "/k")
	r.Has("/k=a")
	r.Counts(0, 1) // the first is away, which is no news while another answers
	a.Stop()
	defer a.Cont()
	r.Has("/k=b")
	r.Counts(1, 2)
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
	r := backendtest.NewReader(t, open(t, url, nil), "/k")
	r.Has("/k/1=a")
	proctest.Eventually(t, "the replica has it", func() bool {
		got, _ := replica.Do("EXISTS", "/k/1").(int64)
		return got == 1
	})
	proctest.Eventually(t, "the sentinel knows the replica", func() bool {
		return strings.Contains(string(master.Do("INFO", "replication").([]byte)), "state=online") &&
			redistest.Replicas(t, sentinel, "main") == 1
	})
	master.Kill()
	r.Fails("redis " + master.Addr() + ": ")
	r.Until("the replica is followed", func() bool { return r.Fulls == 2 })
	replica.Do("SET", "/k/1", "b")
	r.Has("/k/1=b")

	for url, want := range map[string]string{
		"redis://:" + password + "@" + sentinel + "?sentinel=other": `redis sentinel ` + sentinel + `: it knows no master "other"`,
		"redis://:wrong@" + sentinel + "?sentinel=main":             "redis " + replica.Addr() + ": WRONGPASS",
		"redis://" + replica.Addr() + "?sentinel=main":              "redis sentinel " + replica.Addr() + ": NOAUTH",
	} {
		backendtest.NewReader(t, open(t, url, nil), "/k").Fails(want)
	}
}

func TestTLS(t *testing.T) {
	certs := etcdtest.NewCerts(t)
	s := redistest.Start(t, redistest.Config{Certs: &certs, Mutual: true})
	s.Do("SET", "/k/1", "a")
	pair := "&cert=" + certs.ClientCert + "&key=" + certs.ClientKey
	r := backendtest.NewReader(t, open(t, "rediss://"+s.Addr()+"?ca="+certs.CA+pair, nil), "/k")
	r.Has("/k/1=a")
	s.Do("SET", "/k/2", "b")
	r.Has("/k/1=a /k/2=b")
	for url, want := range map[string]string{
		"rediss://" + s.Addr() + "?ca=" + certs.CA: "certificate", // required, or it may want one
		"rediss://" + s.Addr() + "?" + pair[1:]:    "certificate signed by unknown authority",
		"redis://" + s.Addr():                      "redis " + s.Addr() + ": ",
	} {
		backendtest.NewReader(t, open(t, url, nil), "/k").Fails(want)
	}
}

func TestSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "redis.sock")
	s := redistest.Start(t, redistest.Config{Flags: []string{"--unixsocket", socket}})
	s.Do("SET", "/k/1", "a")
	r := backendtest.NewReader(t, newStore(t, socket), "/k")
	r.Has("/k/1=a")
	s.Do("SET", "/k/1", "b")
	r.Has("/k/1=b")
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

	var log backendtest.Logbook
	r := backendtest.NewReader(t, open(t, user("all", append(enough, "~/k/*", "&__keyspace@0__:/k", "&__keyspace@0__:/k/*", "+config|get")...), log.Logger()), "/k")
	r.Has("/k/1=a")
	if got := log.Count("WARN"); got != 0 {
		t.Errorf("the log warns %d times, want none: %s", got, &log)
	}
	s.Do("SET", "/k/1", "b")
	r.Has("/k/1=b")

	for _, c := range []struct {
		name  string
		rules []any
		want  string
	}{
		{"noconfig", []any{"~/k*", "allchannels"}, "its setting can't be read, changes arrive at once if it tells of them: NOPERM"},
		{"nochannel", []any{"~/k*", "+config|get"}, "allow the user the channels __keyspace@0__:/k __keyspace@0__:/k/*, or all: NOPERM"},
	} {
		var log backendtest.Logbook
		r := backendtest.NewReader(t, open(t, user(c.name, append(enough, c.rules...)...), log.Logger()), "/k")
		r.Until("it is there", func() bool { return r.Keys["/k/1"] != "" })
		s.Do("SET", "/k/1", c.name)
		r.Until("it changed", func() bool { return r.Keys["/k/1"] == c.name })
		if got := log.Count(c.want); got != 1 {
			t.Errorf("%s: the log says %q %d times, want 1", c.name, c.want, got)
		}
	}
	backendtest.NewReader(t, open(t, user("nokeys", append(enough, "~/other*", "&*", "+config|get")...), nil), "/k").Fails(`key "/k/1": NOPERM`)
	backendtest.NewReader(t, open(t, "redis://all:wrong@"+s.Addr(), nil), "/k").Fails("redis " + s.Addr() + ": WRONGPASS invalid username-password pair")
	backendtest.NewReader(t, open(t, "redis://"+s.Addr()+"/99", nil), "/k").Fails("redis " + s.Addr() + ": ERR DB index is out of range")
}
