package sidekick

import (
	"context"
	"errors"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"muster/backends"
	"muster/catalog"
)

// noLease is enough where nothing is announced.
type noLease struct{}

func (noLease) Run(context.Context) error                            { return nil }
func (noLease) Write(context.Context, []backends.KV, []string) error { return nil }
func (noLease) Lost() <-chan struct{}                                { return nil }
func (noLease) Revoke(context.Context) error                         { return nil }
func (noLease) ID() int64                                            { return 0 }

func TestNewSaysAllThatIsWrong(t *testing.T) {
	_, err := New(Config{
		Service: "a/b", ID: "c d", Addr: ":8080", Prefix: "/", Checks: []string{"ping:x", "http:healthz"},
		Rise: -1, Weight: 70000, Routes: []string{"example.com"},
	})
	if err == nil {
		t.Fatal("New took it all")
	}
	for _, want := range []string{
		`service "a/b": want`,
		`id "c d": want`,
		`addr ":8080": want a host too`,
		`prefix "/": want`,
		`check "ping:x": want tcp:, http:/PATH or https:/PATH [status=200-399]`,
		`check "http:healthz": want http:/PATH`,
		`rise and fall: want none that is negative`,
		`weight 70000: want 0 to 65535`,
		`route "example.com": want [HOST]/PATH`,
		`no lease`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v:\nwant %q in it", err, want)
		}
	}
}

func TestNewLooksAtTheAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.5:8080":   "",
		"web.local:80":    "",
		"[fe80::1]:80":    "",
		"":                "want HOST:PORT",
		"::1:28106":       "want HOST:PORT, where others reach the app; an IPv6 address stands in brackets, as in [::1]:28106",
		"10.0.0.5":        "want HOST:PORT",
		"10.0.0.5:":       "want 1 to 65535",
		"10.0.0.5:0":      "want 1 to 65535",
		"10.0.0.5:http":   "want 1 to 65535",
		"10.0.0.5:99999":  "want 1 to 65535",
		":80":             "want a host too",
		"0.0.0.0:80":      "want a host too",
		"[::]:80":         "want a host too",
		"a b:80":          "want a name or an address",
		"http://a.com:80": "want HOST:PORT",
	} {
		_, err := New(Config{Service: "web", Addr: addr, Lease: noLease{}})
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("New(addr %q): got %v: want %q in it", addr, err, want)
		}
	}
}

func TestAnnouncementIsWhatWasConfigured(t *testing.T) {
	c := Config{
		Service: "web", Addr: "10.0.0.5:8080", Weight: -1, Zone: "a", Host: "node7",
		Tags: []string{"blue"}, Labels: map[string]string{"k": "v"}, Routes: []string{"example.com/api"},
		Checks: []string{"tcp:", "http:/healthz"}, Interval: 3 * time.Second,
	}.withDefaults()
	want := catalog.Announcement{
		Addr: "10.0.0.5:8080", Weight: 0, Zone: "a", Host: "node7", V: 1, State: catalog.Up,
		Tags: []string{"blue"}, Labels: map[string]string{"k": "v"}, Routes: []string{"example.com/api"},
		Health: &catalog.Health{
			HTTP: "/healthz", Interval: catalog.Duration(3 * time.Second), Timeout: catalog.Duration(time.Second), Rise: 2, Fall: 3,
		},
	}
	got, err := catalog.ParseMetadata(c.announcement().Metadata())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v:\nwant %+v", got, err, want)
	}
}

func TestDeclaredCheck(t *testing.T) {
	for _, tt := range []struct {
		checks []string
		want   *catalog.Health
	}{
		{nil, &catalog.Health{TCP: true}},
		{[]string{"tcp:"}, &catalog.Health{TCP: true}},
		{[]string{"http:/a", "http:/b"}, &catalog.Health{HTTP: "/a"}},
		{[]string{"exec:true", "http:/a"}, &catalog.Health{HTTP: "/a"}},
		{[]string{"https:/a"}, nil},
		{[]string{"http:/a body=ok"}, &catalog.Health{HTTP: "/a"}},
		{[]string{"http:/a status=200"}, nil},
		{[]string{"http:/a host=x", "http:/b", "tcp:"}, &catalog.Health{HTTP: "/b"}},
		{[]string{"http:/a host=x", "tcp:"}, &catalog.Health{TCP: true}},
		{[]string{"grpc:", "heartbeat:1s", "systemd:a", "docker:a"}, nil},
		{[]string{"exec:true"}, nil},
		{[]string{"none"}, nil},
	} {
		got := Config{Checks: tt.checks}.withDefaults().declared()
		if tt.want != nil {
			tt.want.Interval, tt.want.Timeout = catalog.Duration(2*time.Second), catalog.Duration(time.Second)
			tt.want.Rise, tt.want.Fall = 2, 3
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("declared(%q): got %+v: want %+v", tt.checks, got, tt.want)
		}
	}
}

// A brokenLease can't be held.
type brokenLease struct{ noLease }

func (brokenLease) Run(context.Context) error { return errors.New("broken") }

func TestALeaseThatBreaksEndsItAll(t *testing.T) {
	s, err := New(Config{Service: "web", Addr: "10.0.0.5:80", Lease: brokenLease{}, App: exec.Command("sh", "-c", `trap "exit 0" TERM; while :; do sleep 0.01; done`)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "lease: broken") {
		t.Errorf("Run: got %v: want the lease's error", err)
	}
}
