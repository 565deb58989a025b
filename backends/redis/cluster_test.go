package redis_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	redigo "github.com/gomodule/redigo/redis"

	"muster/backends/backendtest"
	"muster/internal/redistest"
)

// A node of a cluster is an error that says so, and never a part of the keys.
func TestClusterIsRefused(t *testing.T) {
	nodes := redistest.Cluster(t, 3)
	have := make(map[int]int) // keys by node
	for i := range 30 {
		have[put(t, nodes, fmt.Sprintf("/k/%d", i))]++
	}
	if len(have) != 3 {
		t.Fatalf("keys are on %d nodes, want 3: %v", len(have), have)
	}
	alone := redistest.Start(t, redistest.Config{})
	alone.Do("SET", "/k/alone", "a")
	for _, s := range nodes {
		want := "redis " + s.Addr() + ": it is a node of a Redis Cluster, which has a part of the keys only"
		store := open(t, "redis://"+s.Addr(), nil)
		if err := store.Reach(t.Context()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Reach: got %v, want %s", err, want)
		}
		if c, err := store.Read(t.Context(), []string{"/"}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Read: got %+v, %v, want %s", c, err, want)
		}
		for _, prefix := range []string{"/", "/k"} {
			r := backendtest.NewReader(t, store, prefix)
			r.Fails(want)
			r.Counts(1, 0)
		}
		// One that has all the keys is used.
		backendtest.NewReader(t, open(t, "redis://"+s.Addr()+","+alone.Addr(), nil), "/k").Has("/k/alone=a")
	}
}

// put sets a key at the node that has it, and returns which that is.
func put(t *testing.T, nodes []*redistest.Server, key string) int {
	t.Helper()
	for i, s := range nodes {
		conn, err := redigo.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Do("SET", key, "x")
		conn.Close()
		if err == nil {
			return i
		}
		if said, ok := errors.AsType[redigo.Error](err); !ok || !strings.HasPrefix(said.Error(), "MOVED ") {
			t.Fatal(err)
		}
	}
	t.Fatalf("no node has %s", key)
	return 0
}
