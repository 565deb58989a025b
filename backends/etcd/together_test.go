package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/backends"
	"muster/internal/etcdtest"
	"muster/internal/freeport"
)

// Read gives what Watch gives first, whichever member answers.
func TestReadIsTheFirstOfWatch(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	var prefixes []string
	for i := range 150 { // more ranges than fit into one transaction
		put(t, s, fmt.Sprintf("/p/%d", i), "itself")
		put(t, s, fmt.Sprintf("/p/%d/below", i), "v")
		put(t, s, fmt.Sprintf("/p/%d-sibling", i), "not wanted")
		prefixes = append(prefixes, fmt.Sprintf("/p/%d", i))
	}
	prefixes = append(prefixes, "/p/7/below", "/none", "/p/9/") // of which nothing comes twice
	gone, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	store := open(t, "etcd://"+gone+","+s.Addr(), nil)
	read, err := store.Read(within(t), prefixes)
	if err != nil {
		t.Fatal(err)
	}
	if !read.Full || len(read.Put) != 300 {
		t.Fatalf("read %d keys, Full %v, want 300 in full", len(read.Put), read.Full)
	}
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	for c, err := range store.Watch(ctx, prefixes) {
		if err != nil {
			continue
		}
		byKey := func(a, b backends.KV) int { return strings.Compare(a.Key, b.Key) }
		slices.SortFunc(c.Put, byKey)
		slices.SortFunc(read.Put, byKey)
		if c.Revision != read.Revision || !slices.Equal(c.Put, read.Put) {
			t.Errorf("Watch begins with %d keys at %d, Read gave %d at %d", len(c.Put), c.Revision, len(read.Put), read.Revision)
		}
		break
	}
}

// No member answers: the error is of all of them.
func TestReadWithoutEtcd(t *testing.T) {
	t.Parallel()
	var addrs []string
	for range 2 {
		addr, err := freeport.Addr()
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, addr)
	}
	_, err := open(t, "etcd://"+strings.Join(addrs, ","), nil).Read(within(t), []string{"/"})
	if err == nil || !strings.Contains(err.Error(), addrs[0]) || !strings.Contains(err.Error(), addrs[1]) {
		t.Errorf("got %v, want both addresses", err)
	}
	if errors.Is(err, backends.ErrDenied) {
		t.Errorf("%v is ErrDenied", err)
	}
}

// A part is not allowed: that is an error, and nothing is left out, not even the
// key that is the prefix.
func TestTogetherIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Auth("muster", "secret", "/services/"))
	put(t, s, "/services/web/1", "v")
	store := open(t, "etcd://muster:secret@"+s.Addr(), nil)
	for _, prefixes := range [][]string{{"/services/web", "/other"}, {"/services"}} {
		if _, err := store.Read(within(t), prefixes); !errors.Is(err, backends.ErrDenied) {
			t.Errorf("Read(%q): got %v, want ErrDenied", prefixes, err)
		}
		for c, err := range store.WatchTogether(within(t), prefixes) {
			if !errors.Is(err, backends.ErrDenied) {
				t.Errorf("WatchTogether(%q): got %+v, %v, want ErrDenied", prefixes, c, err)
			}
			break
		}
	}
	allowed := []string{"/services/web", "/services/db"}
	c, err := store.Read(within(t), allowed)
	if err != nil || len(c.Put) != 1 {
		t.Errorf("Read(%q): got %+v, %v, want one key", allowed, c, err)
	}
	for c, err := range store.WatchTogether(within(t), allowed) {
		if err != nil || !c.Full || len(c.Put) != 1 {
			t.Errorf("WatchTogether(%q): got %+v, %v, want one key in full", allowed, c, err)
		}
		break
	}
}

// A prefix is one watch of etcd's where few keys lie beside it, and two otherwise.
// Either way what one transaction writes to the key and below it is one Change,
// and what is beside it comes to nobody.
func TestTogetherWatchesOnePrefixOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name              string
		siblings, watches int
	}{{"few", 2, 2}, {"many", 200, 4}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := etcdtest.Start(t)
			for i := range test.siblings {
				put(t, s, fmt.Sprintf("/a-%d", i), "sibling")
				put(t, s, fmt.Sprintf("/b.%d", i), "sibling")
			}
			put(t, s, "/a", "1")
			put(t, s, "/a/x", "1")
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			var got []string
			started := false
			for c, err := range open(t, "etcd://"+s.Addr(), nil).WatchTogether(ctx, []string{"/a", "/b"}) {
				if err != nil {
					t.Fatal(err)
				}
				var keys []string
				for _, kv := range c.Put {
					keys = append(keys, kv.Key+"="+kv.Value)
				}
				if slices.Sort(keys); len(keys) > 0 {
					got = append(got, strings.Join(keys, " "))
				}
				if c.Full {
					continue
				}
				if !started { // the stream is there
					started = true
					if n := watchers(t, s); n != test.watches {
						t.Errorf("etcd has %d watches, want %d", n, test.watches)
					}
					_, err := s.Client().Txn(ctx).Then(
						clientv3.OpPut("/a", "2"), clientv3.OpPut("/a/x", "2"), clientv3.OpPut("/a-0", "2"),
					).Commit()
					if err != nil {
						t.Fatal(err)
					}
				}
				if len(keys) > 0 && len(got) == 2 { // the transaction
					put(t, s, "/b.1", "2")
					put(t, s, "/b/end", "2")
				}
				if len(got) == 3 {
					break
				}
			}
			want := []string{"/a/x=1 /a=1", "/a/x=2 /a=2", "/b/end=2"}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// watchers is how many watches etcd has, by its own count.
func watchers(t *testing.T, s *etcdtest.Server) int {
	t.Helper()
	resp, err := http.Get("http://" + s.Addr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\netcd_debugging_mvcc_watcher_total ")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("etcd says nothing of its watches: %v", err)
	}
	return n
}
