package redis_test

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/internal/redistest"
)

// The contract holds however keys are kept in Redis, and whether it tells of
// changes or not.
func TestContract(t *testing.T) {
	for _, c := range []struct {
		name, separator string
		hashes          bool
		notify          string
	}{
		{"strings", "", false, "KA"},
		{"strings, as few events as can be", "", false, "Kg$hxe"},
		{"hashes", "", true, "KA"},
		{"a separator", ":", false, "KA"},
		{"hashes and a separator of two", "--", true, "KA"},
		{"without events", "", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{Flags: []string{"--notify-keyspace-events", c.notify}})
			raw := func(key string) string {
				if c.separator == "" {
					return key
				}
				return strings.ReplaceAll(key[1:], "/", c.separator)
			}
			backendtest.Run(t, backendtest.Harness{
				Open: func(t testing.TB) backends.Store {
					return open(t, "redis://"+s.Addr()+"/0?"+parameters(c.separator), nil)
				},
				Put: func(t testing.TB, key, value string) {
					if c.hashes {
						s.Do("HSET", raw(path.Dir(key)), path.Base(key), value)
					} else {
						s.Do("SET", raw(key), value)
					}
				},
				Delete: func(t testing.TB, key string) {
					if c.hashes {
						s.Do("HDEL", raw(path.Dir(key)), path.Base(key))
					} else {
						s.Do("DEL", raw(key))
					}
				},
				Stop:  func(testing.TB) { s.Kill() },
				Start: func(testing.TB) { s.Restart() },
			})
		})
	}
}

func parameters(separator string) string {
	if separator == "" {
		return ""
	}
	return "separator=" + url.QueryEscape(separator)
}
