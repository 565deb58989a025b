package consul_test

import (
	"errors"
	"fmt"
	"testing"

	"muster/backends"
	"muster/internal/consultest"
)

func TestRead(t *testing.T) {
	s := consultest.Start(t, consultest.Config{})
	s.Put("a/1", "x")
	s.Put("b", "y")
	s.Put("c", "not asked for")
	store := open(t, "consul://127.0.0.1:1,"+s.Addr(), nil)
	c, err := store.Read(t.Context(), []string{"/b", "/a"})
	var got []string
	for _, kv := range c.Put {
		got = append(got, kv.Key+"="+kv.Value)
	}
	if text := fmt.Sprint(c.Full, got, c.Deleted); err != nil || text != "true [/a/1=x /b=y] []" {
		t.Errorf("got %s, %v, want a and b", text, err)
	}
	if c, err := store.Read(t.Context(), nil); err != nil || !c.Full || len(c.Put) > 0 {
		t.Errorf("of no prefixes: got %+v, %v, want a Full Change of nothing", c, err)
	}
	s.Kill()
	want := "consul 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused; consul " + s.Addr() + ": dial tcp " + s.Addr() + ": connect: connection refused"
	if _, err := store.Read(t.Context(), []string{"/a"}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Together nothing is left out of what a token may not read, so that others of
// them may ask alone.
func TestDeniedTogether(t *testing.T) {
	s := consultest.Start(t, consultest.Config{ACL: true})
	s.Put("a/1", "x")
	s.Put("a/2", "y")
	s.Put("b", "z")
	t.Setenv("CONSUL_HTTP_TOKEN", s.Token(`key "a/1" { policy = "read" } key "b" { policy = "read" }`))
	store := open(t, "consul://"+s.Addr(), nil)
	prefixes := []string{"/a", "/b"}
	if c, err := store.Read(t.Context(), prefixes); !errors.Is(err, backends.ErrDenied) {
		t.Errorf("Read(%q): got %+v, %v, want ErrDenied", prefixes, c, err)
	}
	for c, err := range store.WatchTogether(t.Context(), prefixes) {
		if !errors.Is(err, backends.ErrDenied) {
			t.Errorf("WatchTogether(%q): got %+v, %v, want ErrDenied", prefixes, c, err)
		}
		break
	}
	if c, err := store.Read(t.Context(), []string{"/b"}); err != nil || len(c.Put) != 1 {
		t.Errorf(`Read("/b"): got %+v, %v, want b alone`, c, err)
	}
}
