package sidekick

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/backends"
)

// A hanging lease can be made to hang: its renewal, and what is written.
type hanging struct {
	noLease
	progress atomic.Int64 // UnixNano of the last time round; 0: none yet
	write    chan struct{}
}

func (h *hanging) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (h *hanging) Write(context.Context, []backends.KV, []string) error {
	<-h.write // also when its context ends: that is the fault
	return nil
}

func (h *hanging) Progress() time.Time {
	if at := h.progress.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// A loop that is stuck is told of, and so is a lease; an app that fails is not.
func TestStuck(t *testing.T) {
	for name, tt := range map[string]struct {
		check, write, renew bool   // what works
		want                string // in the error; empty: none
	}{
		"all goes on":            {true, true, true, ""},
		"a check does not end":   {false, true, true, "the checks have not come back for"},
		"writing does not end":   {true, false, true, "nothing has been written for"},
		"the lease's loop hangs": {true, true, false, "the lease's renewal has not come round for 1m"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lease := &hanging{write: make(chan struct{})}
				if tt.write {
					close(lease.write)
				}
				s, err := New(Config{Service: "web", Addr: "10.0.0.5:80", Lease: lease, Drain: -1})
				if err != nil {
					t.Fatal(err)
				}
				hung := make(chan struct{})
				s.checks = []check{{"script:", func(context.Context) error {
					if !tt.check {
						<-hung
					}
					return nil
				}}}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { _ = s.Run(ctx); close(done) }()
				for range 60 {
					if tt.renew {
						lease.progress.Store(time.Now().UnixNano())
					}
					time.Sleep(time.Second)
				}
				synctest.Wait()
				err = s.Stuck()
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Stuck: got %v: want %q", err, tt.want)
				}
				health := httptest.NewRecorder()
				s.Handler().ServeHTTP(health, httptest.NewRequest(http.MethodGet, "/healthz", nil))
				if want := map[bool]int{true: 200, false: 503}[tt.want == ""]; health.Code != want {
					t.Errorf("/healthz: got %d %s: want %d", health.Code, health.Body, want)
				}
				close(hung)
				if !tt.write {
					close(lease.write)
				}
				cancel()
				<-done
				if err := s.Stuck(); err != nil {
					t.Errorf("after its end: Stuck: got %v", err)
				}
			})
		})
	}
}

// An app that fails, or a store that says no, is not what a new sidekick mends.
func TestAFailingAppIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := script{results: "-"}
		s, err := New(Config{Service: "web", Addr: "10.0.0.5:80", Lease: noLease{}})
		if err != nil {
			t.Fatal(err)
		}
		s.checks = []check{sc.check()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.check(ctx); close(done) }()
		time.Sleep(10 * time.Minute)
		if err := s.Stuck(); err != nil {
			t.Errorf("Stuck: got %v", err)
		}
		cancel()
		<-done
	})
}

func TestReportIsJSON(t *testing.T) {
	s, err := New(Config{Service: "web", Addr: "10.0.0.5:80", ID: `a"b\c`, Lease: noLease{}, Checks: []string{"exec:echo why; false", "exec:true"}})
	if err != nil {
		t.Fatal(err)
	}
	v := verdict{rise: 2, fall: 3}
	results, err := runChecks(t.Context(), s.checks, 30*time.Second)
	s.count(results, &v, v.add(err == nil, 0))
	text, err := json.Marshal(s.Report())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"service":"web"`, `"id":"a\"b\\c"`, `"state":"starting"`, `"announced":false`, `"lease":"0"`, `"rise":2`,
		`{"spec":"exec:echo why; false","pass":false,"error":"exit status 1: \"why\"","at":`, `{"spec":"exec:true","pass":true,"at":`,
		`"failures":1`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("report: got %s: want %s in it", text, want)
		}
	}
	if got, want := Metrics(s.Report()), `muster_sidekick_check_passing{service="web",endpoint="a\"b\\c",check="exec:echo why; false"} 0`+"\n"; !strings.Contains(got, want) {
		t.Errorf("metrics: got %s: want %s in it", got, want)
	}
}
