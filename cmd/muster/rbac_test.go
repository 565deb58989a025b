package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"muster/internal/etcdtest"
	"muster/internal/proctest"
)

// TestDocumentedRoles does to a real etcd what docs/etcd.md says, and then each
// role can do its work and nothing else.
func TestDocumentedRoles(t *testing.T) {
	etcd := etcdtest.Start(t)
	passwords := documentedRoles(t, etcd.Client())
	login := func(user string) *clientv3.Client { return loginAs(t, etcd.Addr(), user, passwords[user]) }
	store := func(user string) string { return "etcd://" + user + ":" + passwords[user] + "@" + etcd.Addr() }
	root := login("root")
	muster := proctest.Build(t, "muster/cmd/muster")

	// The sidekick announces and withdraws.
	addr := proctest.FreeAddr(t)
	proctest.Start(t, "backend", nil, muster, "echo", "-name", "A", "-listen", addr).WaitFor(addr)
	sidekick := proctest.Start(t, "sidekick", nil, muster, "sidekick", "web", "-addr", addr, "-store", store("sidekick"), "-ttl", "2s", "-interval", "100ms", "-drain", "100ms")
	plain, meta := "/services/web/"+addr, "/services.meta/web/"+addr
	keys := follow(t, root)
	keys.wait(t, plain, true)
	announced := time.Now()
	created := createdAt(t, root, plain)

	// The balancer follows both trees and the operator's switch.
	balancer := proctest.Start(t, "balancer", nil, muster, "proxy", "-listen", "127.0.0.1:0", "-admin", "", "-store", store("balancer"))
	listen := balancer.Value("msg=listening", "addr")
	proctest.Eventually(t, "200", func() bool { return status("http://"+listen+"/") == 200 })
	if _, err := login("operator").Put(t.Context(), "/muster/protect", "off"); err != nil {
		t.Errorf("the operator puts /muster/protect: %v", err)
	}
	balancer.WaitFor("protection against mass expiry was switched")

	for _, row := range []struct {
		user          string
		read, write   []string
		noRead, noPut []string
	}{
		{
			"sidekick",
			[]string{plain, meta},
			[]string{"/services/other/1", "/services.meta/other/1"},
			[]string{"/muster/protect", "/services", "/services.x/1", "/services-x", "/x"},
			[]string{"/muster/protect", "/muster.node/1", "/services", "/services.x/1", "/services0", "/x"},
		},
		{
			"balancer",
			[]string{plain, meta, "/services", "/muster", "/muster/protect", "/muster.node/1"},
			nil,
			[]string{"/x", "/services0", "/muster0"},
			[]string{plain, meta, "/muster", "/muster/protect", "/x"},
		},
		{
			"operator",
			[]string{plain, meta, "/muster/protect"},
			[]string{"/muster/service/web", "/muster/state/web"},
			[]string{"/x"},
			[]string{plain, meta, "/muster", "/muster.node/1", "/x"},
		},
	} {
		c := login(row.user)
		try := func(what, key string, want bool, err error) {
			t.Helper()
			if want && err != nil || !want && !errors.Is(err, rpctypes.ErrPermissionDenied) {
				t.Errorf("%s: %s %s: %v; allowed: want %v", row.user, what, key, err, want)
			}
		}
		read := func(key string) error { _, err := c.Get(t.Context(), key); return err }
		for _, key := range row.read {
			try("reads", key, true, read(key))
		}
		for _, key := range row.noRead {
			try("reads", key, false, read(key))
		}
		_, err := c.Get(t.Context(), "/", clientv3.WithFromKey())
		try("reads", "everything", false, err)
		for _, key := range row.write {
			_, err := c.Put(t.Context(), key, "h:1")
			try("writes", key, true, err)
			_, err = root.Delete(t.Context(), key)
			try("(root) deletes", key, true, err)
		}
		for _, key := range row.noPut {
			_, err := c.Put(t.Context(), key, "h:1")
			try("writes", key, false, err)
			_, err = c.Delete(t.Context(), key)
			try("deletes", key, false, err)
		}
		if _, err := c.UserList(t.Context()); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s lists the users: %v, want it denied", row.user, err)
		}
	}

	// It renews its lease too: etcd asks who does.
	proctest.Eventually(t, "three times the lease", func() bool { return time.Since(announced) > 6*time.Second })
	if now := createdAt(t, root, plain); now != created {
		t.Errorf("%s was created at revision %d, now %d: its lease was lost", plain, created, now)
	}
	sidekick.Signal(syscall.SIGTERM)
	if code := sidekick.Wait(); code != 0 {
		t.Errorf("the sidekick ended with %d, want 0", code)
	}
	for _, key := range []string{plain, meta} {
		resp, err := root.Get(t.Context(), key)
		if err != nil || resp.Count != 0 {
			t.Errorf("%s is there after the sidekick has left: %v %v", key, resp, err)
		}
	}
	for _, p := range []*proctest.Proc{sidekick, balancer} {
		if strings.Contains(p.Output(), "permission denied") {
			t.Errorf("somebody was denied something it needs:\n%s", p.Output())
		}
	}
}

// createdAt is the revision at which a key was created; 0 where it is not there.
func createdAt(t *testing.T, c *clientv3.Client, key string) int64 {
	t.Helper()
	resp, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return 0
	}
	return resp.Kvs[0].CreateRevision
}

// documentedRoles runs the etcdctl commands of docs/etcd.md, in their order, and
// returns the users' passwords. One that it does not know fails the test.
func documentedRoles(t *testing.T, c *clientv3.Client) (passwords map[string]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/etcd.md")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	passwords = make(map[string]string)
	n := 0
	for line := range strings.Lines(string(text)) {
		args, ok := strings.CutPrefix(strings.TrimSpace(line), "etcdctl ")
		if !ok {
			continue
		}
		n++
		if err := etcdctl(ctx, c, strings.Fields(args), passwords); err != nil {
			t.Fatalf("docs/etcd.md: etcdctl %s: %v", args, err)
		}
	}
	if n == 0 || len(passwords) != 4 {
		t.Fatalf("docs/etcd.md: %d commands, %d users; want root, sidekick, balancer, operator", n, len(passwords))
	}
	return passwords
}

// etcdctl does what the command line of that name does with args.
func etcdctl(ctx context.Context, c *clientv3.Client, args []string, passwords map[string]string) error {
	types := map[string]clientv3.PermissionType{
		"read": clientv3.PermissionType(clientv3.PermRead), "write": clientv3.PermissionType(clientv3.PermWrite),
		"readwrite": clientv3.PermissionType(clientv3.PermReadWrite),
	}
	var err error
	switch command := strings.Join(args[:2], " "); {
	case command == "role add" && len(args) == 3:
		_, err = c.RoleAdd(ctx, args[2])
	case command == "role grant-permission" && len(args) == 6:
		kind, ok := types[args[3]]
		if !ok {
			return fmt.Errorf("no such permission: %s", args[3])
		}
		_, err = c.RoleGrantPermission(ctx, args[2], args[4], args[5], kind)
	case command == "user add" && len(args) == 3:
		user, password, ok := strings.Cut(args[2], ":")
		if !ok {
			return errors.New("want USER:PASSWORD")
		}
		passwords[user] = password
		_, err = c.UserAdd(ctx, user, password)
	case command == "user grant-role" && len(args) == 4:
		_, err = c.UserGrantRole(ctx, args[2], args[3])
	case command == "auth enable" && len(args) == 2:
		_, err = c.AuthEnable(ctx)
	default:
		return errors.New("not known to this test")
	}
	return err
}

func loginAs(t *testing.T, addr, user, password string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Username: user, Password: password, DialTimeout: proctest.Patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
