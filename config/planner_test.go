package config_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/backends"
	"muster/catalog"
	"muster/config"
)

// A Planner says what Plan says, whatever happens between two plans: endpoints,
// routes and services that come, change and go, also all at once, a file that
// is read again, and flags that change.
func TestPlannerSaysWhatPlanSays(t *testing.T) {
	other, err := config.Parse("muster.toml", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		flags := []config.Flags{{}, {Domain: "test"}, {Default: "svc-1"}}[r.IntN(3)]
		var planner config.Planner
		var file *config.File
		snapshot := catalog.New(catalog.DefaultPrefix)
		for step := range 40 {
			c := backends.Change{Revision: int64(step + 1)}
			for range 1 + r.IntN(3) {
				key := fmt.Sprintf("/svc-%d/%d", r.IntN(4), r.IntN(3))
				plain := backends.KV{Key: "/services" + key, Value: fmt.Sprintf("h%d:1", r.IntN(2)), Created: c.Revision}
				switch r.IntN(9) {
				case 0, 1:
					c.Deleted = append(c.Deleted, plain.Key, "/services.meta"+key)
				case 2:
					plain.Value = "nonsense"
				case 5:
					plain.Value = "grpc://h:1" // is left out, and told
				case 3:
					c.Put = append(c.Put, backends.KV{Key: "/services.meta" + key, Value: fmt.Sprintf(`{"routes":["%s.test/"]}`, key[1:2]), Created: c.Revision})
				case 4:
					c.Put = append(c.Put, backends.KV{Key: "/services.meta" + key, Value: fmt.Sprintf(`{"weight":%d}`, r.IntN(200)), Created: c.Revision})
				}
				if r.IntN(8) > 1 {
					c.Put = append(c.Put, plain)
				}
			}
			c.Full = r.IntN(20) == 0
			snapshot = snapshot.Apply(c)
			if r.IntN(20) == 0 {
				file = other
			}
			if r.IntN(20) == 0 {
				flags.Loaded = !flags.Loaded
			}
			want, wantProblems := config.Plan(file, flags, snapshot)
			got, gotProblems := planner.Plan(file, flags, snapshot)
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("seed %d, step %d: (-Plan +Planner)\n%s", seed, step, d)
			}
			if d := cmp.Diff(wantProblems, gotProblems); d != "" {
				t.Fatalf("seed %d, step %d: (-Plan +Planner)\n%s", seed, step, d)
			}
			if flags.Default == "" && !flags.Loaded {
				flags.Sole = got.Sole
			}
		}
	}
}

// One endpoint's change in a large fleet is planned by that service alone: what
// did not change is not looked at again.
func TestPlannerTakesOver(t *testing.T) {
	var c backends.Change
	for i := range 10 {
		key := fmt.Sprintf("/svc-%d/a", i)
		c.Put = append(c.Put,
			backends.KV{Key: "/services" + key, Value: "h:1"},
			backends.KV{Key: "/services.meta" + key, Value: fmt.Sprintf(`{"routes":["%d.test/"]}`, i)})
	}
	var planner config.Planner
	snapshot := catalog.New(catalog.DefaultPrefix).Apply(c)
	before, _ := planner.Plan(nil, config.Flags{}, snapshot)
	snapshot = snapshot.Apply(backends.Change{Put: []backends.KV{{Key: "/services.meta/svc-3/a", Value: `{"routes":["3.test/"],"weight":7}`}}})
	after, _ := planner.Plan(nil, config.Flags{}, snapshot)
	if &after.Routes[0] != &before.Routes[0] {
		t.Error("the routes were made anew, and none changed")
	}
	if w := after.Services[3].Endpoints[0].Weight; w != 7 {
		t.Errorf("weight %d, want 7", w)
	}
	if w := before.Services[3].Endpoints[0].Weight; w != catalog.DefaultWeight {
		t.Errorf("weight %d in the plan before: it must not change", w)
	}
}
