package env

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/backends"
	"muster/backends/backendtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWatch(t *testing.T) {
	environ := []string{"NET_MASK=24", "NETMASK=x", "NET=n", "NET_DNS_0=a=b", "NET__DNS_1=c", "NET_EMPTY=", "net_low=l", "=odd", "noequals"}
	for _, c := range []struct {
		name     string
		match    func(prefix, key string) bool
		prefixes []string
		want     string
	}{
		{"by element", nil, []string{"/net"}, "/net=n /net/dns/0=a=b /net/dns/1=c /net/empty= /net/mask=24"},
		{"by string", backends.HasPrefix, []string{"/net"}, "/net=n /net/dns/0=a=b /net/dns/1=c /net/empty= /net/mask=24 /netmask=x"},
		{"deeper, without a slash", nil, []string{"net/dns"}, "/net/dns/0=a=b"},
		{"everything, small letters too", nil, []string{"/"}, "/net=n /net/dns/0=a=b /net/dns/1=c /net/empty= /net/low=l /net/mask=24 /netmask=x"},
		{"two prefixes that overlap", nil, []string{"/net/mask", "/net/mask"}, "/net/mask=24"},
		{"no prefix", nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := New(Config{Environ: func() []string { return environ }, Match: c.match})
			defer s.Close()
			for change, err := range s.Watch(ctx, c.prefixes) {
				if err != nil || !change.Full || change.Revision == 0 {
					t.Fatalf("first is %v, %v, want everything", change, err)
				}
				var got []string
				for _, kv := range change.Put {
					got = append(got, kv.Key+"="+kv.Value)
				}
				if want := c.want; fmt.Sprint(got) != "["+want+"]" {
					t.Errorf("got  %s\nwant [%s]", got, want)
				}
				break
			}
		})
	}
}

func TestContract(t *testing.T) {
	for name, match := range map[string]func(prefix, key string) bool{"by element": backends.Under, "by string": backends.HasPrefix} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			environ := make(map[string]string)
			variable := func(key string) string {
				return strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(key, "/"), "/", "_"))
			}
			backendtest.Run(t, backendtest.Harness{
				Open: func(testing.TB) backends.Store {
					s := New(Config{Match: match, Environ: func() (list []string) {
						mu.Lock()
						defer mu.Unlock()
						for name, value := range environ {
							list = append(list, name+"="+value)
						}
						return list
					}})
					s.interval = 10 * time.Millisecond
					return s
				},
				Put: func(_ testing.TB, key, value string) {
					mu.Lock()
					defer mu.Unlock()
					environ[variable(key)] = value
				},
				Delete: func(_ testing.TB, key string) {
					mu.Lock()
					defer mu.Unlock()
					delete(environ, variable(key))
				},
				ByString: name == "by string",
			})
		})
	}
}
