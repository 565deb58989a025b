package etcd_test

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/etcdtest"
)

// etcd comes back from a backup, at an older revision, and goes on from there:
// what the backup has is what there is. The client's own Watch never says a word
// (W7 of the fault list; TestWipedEtcd and TestManyKeysInAWipedEtcdThatOvertook
// are its other forms).
func TestEtcdRestoredFromABackup(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	five(t, s)
	s.Backup()
	w := follow(t, open(t, "etcd://"+r.Addr(), nil), nil, "/services")
	put(t, s, "/services/web/0", "10.0.0.2:80")
	put(t, s, "/services/web/after", "10.0.0.3:80")
	var newest int64
	for range 20 {
		newest = put(t, s, "/elsewhere", "x")
	}
	w.until("the last one is there", func() bool { return w.state["/services/web/after"].Value != "" })
	w.alive(2)
	naive := watchNaively(t, s.Client(), "/services/", newest+1)
	w.mark()
	r.Refuse() // so that one break is counted, however long the restore takes
	w.broken()
	s.Restore()
	s.Restart()
	put(t, s, "/services/web/new", "10.0.0.9:80")
	r.Heal()
	w.until("the new one is there", func() bool { return w.state["/services/web/new"].Value != "" })
	w.alive(2)
	w.want("1 errors, 1 full, delete /services/web/after, put /services/web/0, put /services/web/new")
	if n := naive(); n != naiveNothing {
		t.Errorf("the fault does not bite, the client's own Watch sees it: %+v", n)
	}
}

// The permission to read is taken away: what was known is still known, and the
// watch heals by itself when it is given back (W11).
func TestPermissionTakenAwayAndGivenBack(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t, etcdtest.Auth("muster", "secret", "/services"))
	r := etcdtest.NewRelay(t, s.Addr())
	put(t, s, "/services/web/1", "v")
	w := follow(t, open(t, "etcd://muster:secret@"+r.Addr(), nil), nil, "/services")
	w.has("/services/web/1=v")
	w.alive(2)

	end := clientv3.GetPrefixRangeEnd("/services")
	if _, err := s.Client().RoleRevokePermission(within(t), "muster", "/services", end); err != nil {
		t.Fatal(err)
	}
	w.mark()
	r.Cut() // a running watch is not looked at again
	w.broken()
	w.said("etcd " + r.Addr() + ": ")
	time.Sleep(2 * time.Second) // several attempts
	w.want("1 errors, 0 full")

	put(t, s, "/services/web/2", "v")
	if _, err := s.Client().RoleGrantPermission(within(t), "muster", "/services", end, clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	w.until("the new one is there", func() bool { return w.state["/services/web/2"].Value != "" })
	w.alive(2)
	w.want("1 errors, 1 full, put /services/web/2")

	// The fault bites: the client's own Watch is canceled, and that is all.
	if _, err := s.Client().RoleRevokePermission(within(t), "muster", "/services", end); err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Addr()}, Username: "muster", Password: "secret", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	naive := c.Watch(within(t), "/services/", clientv3.WithPrefix())
	for range naive {
		// until it closes
	}
}

// Nothing changes below the prefix while the rest of etcd is busy and compacted:
// a cut costs one Full and no change (W2).
func TestQuietPrefixInABusyStore(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	r := etcdtest.NewRelay(t, s.Addr())
	w := follow(t, open(t, "etcd://"+r.Addr(), nil), nil, "/services", "/services.meta")
	w.has(five(t, s)...)
	w.mark()
	var last int64
	for i := range 200 {
		last = put(t, s, "/elsewhere", fmt.Sprint(i))
	}
	compact(t, s, last)
	w.alive(4)
	w.want("0 errors, 0 full") // compaction is none of its business
	r.Refuse()
	w.broken()
	for i := range 200 {
		last = put(t, s, "/elsewhere", fmt.Sprint(i))
	}
	compact(t, s, last)
	naive := watchNaively(t, s.Client(), "/services/", last-100)
	r.Heal()
	w.until("it is Full again", func() bool { return w.fulls == 1 })
	w.alive(4)
	w.want("1 errors, 1 full")
	if n := naive(); n.errors == 0 {
		t.Errorf("the fault does not bite: %+v", n)
	}
}
