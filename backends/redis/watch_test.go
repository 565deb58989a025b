package redis_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"muster/backends/backendtest"
	"muster/internal/etcdtest"
	"muster/internal/proctest"
	"muster/internal/redistest"
)

// The original shares one connection among its resources, without a lock: a
// value PONG was rendered, then it panicked. Here each watch has its own.
func TestManyWatchesDoNotMixReplies(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	store := open(t, "redis://"+s.Addr(), nil)
	var readers []*backendtest.Reader
	for i := range 8 {
		s.Do("SET", fmt.Sprintf("/app%d/key", i), "first")
		readers = append(readers, backendtest.NewReader(t, store, fmt.Sprintf("/app%d", i)))
	}
	for i, r := range readers {
		r.Has(fmt.Sprintf("/app%d/key=first", i))
	}
	for n := range 50 {
		for i := range readers {
			s.Do("SET", fmt.Sprintf("/app%d/key", i), fmt.Sprintf("%d of %d", n, i))
			s.Do("HSET", fmt.Sprintf("/app%d/hash", i), "field", n)
		}
	}
	for i, r := range readers {
		r.Has(fmt.Sprintf("/app%d/hash/field=49 /app%d/key=49 of %d", i, i, i))
		r.Counts(0, 1)
	}
}

// An announced TTL leaves: the original never hears of "expired".
func TestExpiredKeysLeave(t *testing.T) {
	for name, notify := range map[string]string{"with events": "Kg$hxe", "without events": ""} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{Flags: []string{"--notify-keyspace-events", notify}})
			s.Do("SET", "/services/web/1", "stays")
			r := backendtest.NewReader(t, open(t, "redis://"+s.Addr(), nil), "/services")
			r.Has("/services/web/1=stays")
			s.Do("SET", "/services/web/2", "leaves", "PX", "3000")
			s.Do("HSET", "/services/web/3", "f", "leaves")
			s.Do("PEXPIRE", "/services/web/3", "3300")
			r.Has("/services/web/1=stays /services/web/2=leaves /services/web/3/f=leaves")
			r.Has("/services/web/1=stays")
			r.Counts(0, 1)
		})
	}
}

// Redis removes what expired when somebody looks, or when chance does: with its
// own looking switched off the watch has to look.
func TestExpiredKeysLeaveThoughRedisDoesNotLook(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Flags: []string{"--enable-debug-command", "yes"}})
	s.Do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s.Do("SET", "/services/web/1", "leaves", "PX", "1500")
	s.Do("SET", "/services/web/2", "stays")
	r := backendtest.NewReader(t, open(t, "redis://"+s.Addr(), nil), "/services")
	r.Has("/services/web/1=leaves /services/web/2=stays")
	r.Has("/services/web/2=stays")
}

// What no event tells of is found all the same.
func TestChangesWithoutAnEvent(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	for i := range 3000 {
		s.Do("SET", fmt.Sprintf("/many/%d", i), "x")
	}
	r := backendtest.NewReader(t, open(t, "redis://"+s.Addr(), nil), "/many")
	r.Until("all are there", func() bool { return len(r.Keys) == 3000 })
	s.Do("FLUSHALL")
	r.Has("")
	s.Do("SET", "/many/1", "y")
	r.Has("/many/1=y")
	r.Counts(0, 1)
}

// Every way to change a key that Redis has.
func TestEveryKindOfChange(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Flags: []string{"--notify-keyspace-events", "Kg$hxe"}})
	r := backendtest.NewReader(t, open(t, "redis://"+s.Addr(), nil), "/k")
	r.Has("")
	for _, step := range []struct{ command, want string }{
		{"SET /k/a 1", "/k/a=1"},
		{"INCRBY /k/a 4", "/k/a=5"},
		{"INCRBYFLOAT /k/a 0.5", "/k/a=5.5"},
		{"APPEND /k/a 0", "/k/a=5.50"},
		{"SETRANGE /k/a 0 7", "/k/a=7.50"},
		{"RENAME /k/a /k/b", "/k/b=7.50"},
		{"COPY /k/b /k/c", "/k/b=7.50 /k/c=7.50"},
		{"RENAME /k/c /elsewhere", "/k/b=7.50"},
		{"MSET /k/x 1 /k/y 2", "/k/b=7.50 /k/x=1 /k/y=2"},
		{"UNLINK /k/x /k/y", "/k/b=7.50"},
		{"GETDEL /k/b", ""},
		{"HSET /k/h f 1 g 2", "/k/h/f=1 /k/h/g=2"},
		{"HINCRBY /k/h f 2", "/k/h/f=3 /k/h/g=2"},
		{"HINCRBYFLOAT /k/h f 0.5", "/k/h/f=3.5 /k/h/g=2"},
		{"HDEL /k/h g", "/k/h/f=3.5"},
		{"SET /k/h text", "/k/h=text"}, // a hash becomes a string
		{"DEL /k/h", ""},
		{"HSET /k/h f 1", "/k/h/f=1"},
		{"RPUSH /k/list x", "/k/h/f=1"}, // a list is no key
		{"MOVE /k/h 1", ""},
		{"SET /k 1", "/k=1"}, // the prefix itself
	} {
		words := strings.Fields(step.command)
		args := make([]any, len(words)-1)
		for i, word := range words[1:] {
			args[i] = word
		}
		s.Do(words[0], args...)
		r.Has(step.want)
	}
	r.Counts(0, 1)
}

// A field of a hash is a key like others: by the hash, above and below it.
func TestFieldsAreKeys(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Do("HSET", "/a/h", "f", "1", "g/x", "2")
	store := open(t, "redis://"+s.Addr(), nil)
	for prefix, want := range map[string]string{
		"/a": "/a/h/f=1 /a/h/g/x=2", "/a/h": "/a/h/f=1 /a/h/g/x=2", "/a/h/f": "/a/h/f=1", "/a/h/g": "/a/h/g/x=2", "/a/h/z": "",
	} {
		t.Run(prefix[1:], func(t *testing.T) {
			r := backendtest.NewReader(t, store, prefix)
			r.Has(want)
			s.Do("HSET", "/a/h", "z", "3")
			r.Has(strings.TrimSpace(map[bool]string{true: want + " /a/h/z=3", false: want}[prefix == "/a" || prefix == "/a/h" || prefix == "/a/h/z"]))
			s.Do("HDEL", "/a/h", "z")
			r.Has(want)
		})
	}
}

// Of two keys that give one name the one with the longer name in Redis wins, and
// the other takes its place when it goes.
func TestOneNameTwice(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Do("HSET", "/a", "b", "field", "c", "1")
	r := backendtest.NewReader(t, open(t, "redis://"+s.Addr(), nil), "/a")
	r.Has("/a/b=field /a/c=1")
	s.Do("SET", "/a/b", "string")
	r.Has("/a/b=string /a/c=1")
	s.Do("HSET", "/a", "b", "hidden", "c", "2")
	r.Has("/a/b=string /a/c=2")
	s.Do("DEL", "/a/b")
	r.Has("/a/b=hidden /a/c=2")
	s.Do("DEL", "/a")
	r.Has("")
	s.Do("SET", "/a/c", "3")
	r.Has("/a/c=3")
}

// Characters of globs in a prefix are characters.
func TestGlobsInPrefixes(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	for _, key := range []string{`/a*b/1`, `/axb/1`, `/[x]/1`, `/x/1`, `/q?/1`, `/qq/1`, `/back\slash/1`} {
		s.Do("SET", key, "v")
	}
	store := open(t, "redis://"+s.Addr(), nil)
	for _, prefix := range []string{`/a*b`, `/[x]`, `/q?`, `/back\slash`} {
		r := backendtest.NewReader(t, store, prefix)
		r.Has(prefix + "/1=v")
		s.Do("SET", prefix+"/2", "w")
		r.Has(prefix + "/1=v " + prefix + "/2=w")
	}
}

// What is written in one MULTI arrives in one Change.
func TestMultiArrivesTogether(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	r := backendtest.NewReader(t, open(t, "redis://"+s.Addr(), nil), "/pair")
	r.Has("")
	for i := range 200 {
		s.Do("MULTI")
		s.Do("SET", "/pair/a", i)
		s.Do("SET", "/pair/b", i)
		s.Do("EXEC")
		r.Until("both", func() bool {
			if r.Keys["/pair/a"] != r.Keys["/pair/b"] {
				t.Fatalf("a is %q and b is %q", r.Keys["/pair/a"], r.Keys["/pair/b"])
			}
			return r.Keys["/pair/a"] == fmt.Sprint(i)
		})
	}
}

// The setting is noticed when it changes, and the log says so once.
func TestSettingIsSwitched(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Flags: []string{"--notify-keyspace-events", "KEx"}})
	var log backendtest.Logbook
	store := open(t, "redis://"+s.Addr(), log.Logger())
	r, other := backendtest.NewReader(t, store, "/k"), backendtest.NewReader(t, store, "/other")
	r.Has("")
	other.Has("")
	s.Do("SET", "/k/1", "polled")
	r.Has("/k/1=polled")
	const off, on = "redis tells of no changes, so keys are read every second: set notify-keyspace-events to Kg$hxe or KA", "redis tells of changes now"
	if log.Count(off) != 1 || log.Count(on) != 0 {
		t.Errorf("the log says it %d and %d times, want 1 and 0", log.Count(off), log.Count(on))
	}
	s.Do("CONFIG", "SET", "notify-keyspace-events", "KA")
	r.Until("it was noticed", func() bool { return log.Count(on) == 1 })
	s.Do("SET", "/k/1", "told")
	r.Has("/k/1=told")
	s.Do("CONFIG", "SET", "notify-keyspace-events", "")
	r.Until("it was noticed", func() bool { return log.Count(off) == 2 })
	s.Do("SET", "/k/1", "polled again")
	r.Has("/k/1=polled again")
	r.Counts(0, 1)
}

// Memory and connections stay as they are over 1,000 changes and several breaks.
func TestNothingGrows(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	relay := etcdtest.NewRelay(t, s.Addr())
	store := open(t, "redis://"+relay.Addr(), nil)
	r, other := backendtest.NewReader(t, store, "/k"), backendtest.NewReader(t, store, "/other")
	r.Has("")
	other.Has("")
	round := func(n int) {
		for i := range n {
			s.Do("SET", fmt.Sprintf("/k/%d", i%10), i)
			s.Do("HSET", "/k/h", fmt.Sprintf("f%d", i%10), i)
		}
		last := fmt.Sprint(n - 1)
		r.Until("the last change", func() bool { return r.Keys["/k/9"] == last && r.Keys["/k/h/f9"] == last })
	}
	round(100)
	heap, goroutines := backendtest.Heap(), runtime.NumGoroutine()
	if got := s.Clients("muster"); got != 4 {
		t.Errorf("two watches have %d connections, want 4", got)
	}
	for range 10 {
		round(100)
	}
	for range 5 {
		fulls := r.Fulls + other.Fulls
		relay.Cut()
		r.Until("it is Full again", func() bool { return r.Fulls > 0 && r.Fulls+other.Fulls > fulls })
		other.Until("it is Full again", func() bool { return other.Fulls == r.Fulls })
		proctest.Eventually(t, "there are four connections again", func() bool { return s.Clients("muster") == 4 })
	}
	r.Alive(2)
	// A feed may be about to start or end a goroutine.
	proctest.Eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
	if grown := backendtest.Heap() - heap; grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func TestSlowLoopDoesNotMakeRedisWait(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Flags: []string{"--client-output-buffer-limit", "pubsub 64kb 32kb 1"}})
	store := open(t, "redis://"+s.Addr(), nil)
	fulls, last := 0, ""
	ctx := t.Context()
	deadline := time.Now().Add(patience)
	for c, err := range store.Watch(ctx, []string{"/k"}) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Full {
			if fulls++; fulls == 1 {
				for i := range 5000 { // while the loop's body is at work
					s.Do("SET", fmt.Sprintf("/k/%0200d", i%100), i)
				}
			}
		}
		for _, kv := range c.Put {
			if kv.Key == fmt.Sprintf("/k/%0200d", 99) {
				last = kv.Value
			}
		}
		if last == "4999" || time.Now().After(deadline) {
			break
		}
	}
	if fulls != 1 || last != "4999" {
		t.Errorf("got %d Full Changes and %q at last, want 1 and 4999", fulls, last)
	}
}

// Events, keys and the look-out are all of the database that was asked for.
func TestOtherDatabase(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Do("SET", "/k/1", "of database 0")
	s.Do("SELECT", "3")
	s.Do("SET", "/k/1", "a")
	r := backendtest.NewReader(t, open(t, "redis://"+s.Addr()+"/3", nil), "/k")
	r.Has("/k/1=a")
	s.Do("SET", "/k/1", "b")
	r.Has("/k/1=b")
	s.Do("FLUSHDB")
	r.Has("")
	r.Counts(0, 1)
}
