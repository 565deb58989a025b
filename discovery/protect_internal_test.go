package discovery

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"muster/backends"
	"muster/catalog"
)

// fleet is a snapshot with so many endpoints of each service, all under leases.
func fleet(sizes map[string]int) *catalog.Snapshot {
	c := backends.Change{Full: true, Revision: 1}
	for name, n := range sizes {
		for i := range n {
			c.Put = append(c.Put, backends.KV{Key: fmt.Sprintf("/services/%s/%d", name, i), Value: fmt.Sprintf("%s%d:1", name, i), Lease: 5})
		}
	}
	return catalog.New(catalog.DefaultPrefix).Apply(c)
}

func TestWhatIsAMass(t *testing.T) {
	now := time.Now()
	type step struct {
		after   time.Duration // since the step before
		service string
		from, n int // the endpoints that expire
		held    int // of them all, after it
	}
	tests := []struct {
		name  string
		fleet map[string]int
		steps []step
	}{
		{"one of two", map[string]int{"web": 2}, []step{{0, "web", 0, 1, 0}}},
		{"the last one", map[string]int{"web": 2}, []step{{0, "web", 0, 1, 0}, {0, "web", 1, 1, 2}}},
		{"the last one, much later", map[string]int{"web": 2}, []step{{0, "web", 0, 1, 0}, {31 * time.Second, "web", 1, 1, 1}}},
		{"two of four", map[string]int{"web": 4, "api": 20}, []step{{0, "web", 0, 2, 0}}},
		{"three of four", map[string]int{"web": 4, "api": 20}, []step{{0, "web", 0, 3, 3}}},
		{"half of ten, one by one", map[string]int{"web": 10, "api": 100}, []step{
			{0, "web", 0, 1, 0}, {0, "web", 1, 1, 0}, {0, "web", 2, 1, 0}, {0, "web", 3, 1, 0}, {0, "web", 4, 1, 0}, {0, "web", 5, 1, 6}, {0, "web", 6, 1, 7},
		}},
		{"half of ten, slowly", map[string]int{"web": 10, "api": 100}, []step{
			{0, "web", 0, 2, 0}, {31 * time.Second, "web", 2, 2, 0}, {31 * time.Second, "web", 4, 2, 0},
		}},
		{"15 percent of all", map[string]int{"a": 10, "b": 10}, []step{{0, "a", 0, 2, 0}, {0, "b", 0, 1, 0}, {0, "b", 1, 1, 4}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := guard{on: true, held: make(map[catalog.Place]*hold)}
			s, at := fleet(test.fleet), now
			for i, step := range test.steps {
				at = at.Add(step.after)
				var c backends.Change
				for k := range step.n {
					c.Deleted = append(c.Deleted, fmt.Sprintf("/services/%s/%d", step.service, step.from+k))
				}
				c, _ = g.filter(s, c, at)
				s = s.Apply(c)
				if len(g.held) != step.held {
					t.Fatalf("step %d, %d of %s expire: %d are held, want %d", i, step.n, step.service, len(g.held), step.held)
				}
			}
		})
	}
}

// Who drains and is gone between two Changes has left, the last one of its service
// too; not so who was only changed and then expired.
func TestLeavingInAHurryIsNoExpiry(t *testing.T) {
	for state, held := range map[string]int{"draining": 0, "up": 1} {
		for _, full := range []bool{false, true} {
			g := guard{on: true, held: make(map[catalog.Place]*hold)}
			c := backends.Change{
				Full: full, Deleted: []string{"/services/web/0", "/services.meta/web/0"},
				Final: []backends.KV{{Key: "/services.meta/web/0", Value: fmt.Sprintf(`{"state":%q}`, state)}, {Key: "/services/web/0", Value: "x"}},
			}
			if full {
				c.Deleted = nil
			}
			g.filter(fleet(map[string]int{"web": 1}), c, time.Now())
			if len(g.held) != held {
				t.Errorf("%s at the last, full=%v: %d are held, want %d", state, full, len(g.held), held)
			}
		}
	}
}

func TestWhatEndsAHold(t *testing.T) {
	answers := true
	w := New(Config{Probe: func(context.Context, catalog.Endpoint) error {
		if answers {
			return nil
		}
		return errors.New("no answer")
	}})
	lives := func(alive bool, err error) func(int64) (bool, error) {
		return func(int64) (bool, error) { return alive, err }
	}
	h := &hold{Entry: fleet(map[string]int{"web": 1}).Entry(catalog.Place{Service: "web", ID: "0"}), at: time.Now()}
	if v := w.judge(t.Context(), h, lives(true, nil)); !v.gone {
		t.Errorf("its lease lives: %+v, want gone", v)
	}
	if v := w.judge(t.Context(), h, lives(false, errors.New("away"))); v.gone || !v.found {
		t.Errorf("nobody knows of the lease, and it answers: %+v, want found", v)
	}
	if v := w.judge(t.Context(), h, lives(false, nil)); v.gone || !v.found || !h.expired {
		t.Errorf("its lease is gone, and it answers: %+v, want found", v)
	}
	answers = false
	first, second := w.judge(t.Context(), h, nil), w.judge(t.Context(), h, nil)
	if first.gone || !second.gone {
		t.Errorf("two checks without an answer: %+v, %+v; want the second to end it", first, second)
	}
	answers, h.at = true, time.Now().Add(-holdAtMost-time.Second)
	if v := w.judge(t.Context(), h, nil); !v.gone {
		t.Errorf("held for more than %v: %+v, want gone", holdAtMost, v)
	}
}

// A Full Change holds what it leaves out, and a delete of what is held already
// changes nothing.
func TestHoldsSurviveEveryChange(t *testing.T) {
	g := guard{on: true, held: make(map[catalog.Place]*hold)}
	s := fleet(map[string]int{"web": 3})
	c, _ := g.filter(s, backends.Change{Full: true, Revision: 2}, time.Now())
	next := s.Apply(c)
	if len(g.held) != 3 || next.Service("web") != s.Service("web") {
		t.Fatalf("after an empty Full Change: %d held, another service; want 3 and the same pointer", len(g.held))
	}
	for _, c := range []backends.Change{
		{Full: true, Revision: 3},
		{Deleted: []string{"/services/web/0", "/services/api/1"}},
		{Put: []backends.KV{{Key: "/services/api/1", Value: "h:9"}}},
	} {
		c, changed := g.filter(next, c, time.Now())
		if next = next.Apply(c); changed || next.Service("web") != s.Service("web") {
			t.Errorf("%+v: the holds or the service changed, want neither", c)
		}
	}
	c = g.off()
	if next = next.Apply(c); len(next.Service("web").Endpoints) != 0 || len(g.held) != 0 {
		t.Errorf("off: %d endpoints, %d held; want none", len(next.Service("web").Endpoints), len(g.held))
	}
}
