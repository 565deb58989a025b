package balance

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// members returns upstreams named by letter, in states written as in
// "a:100 b:50/failing c:100/draining"; the number is the weight.
func members(t testing.TB, text string) (ms []Member) {
	t.Helper()
	for f := range strings.FieldsSeq(text) {
		f, state, _ := strings.Cut(f, "/")
		var id string
		var weight int
		if _, err := fmt.Sscanf(strings.Replace(f, ":", " ", 1), "%s %d", &id, &weight); err != nil {
			t.Fatal(f, err)
		}
		u := &Upstream{Service: "web", ID: id, Addr: "10.0.0.1:80"}
		switch state {
		case "failing":
			u.SetFailing("refused")
		case "draining":
			u.SetState(Draining)
		case "starting":
			u.SetState(Starting)
		}
		ms = append(ms, Member{u, weight})
	}
	return ms
}

func service(t testing.TB, text string) (*Service, []Member) {
	ms := members(t, text)
	return NewService("web", new(Stats), ms), ms
}

// picks counts n picks by ID.
func picks(s *Service, n int, tried ...*Upstream) map[string]int {
	got := make(map[string]int)
	for range n {
		if u := s.Pick(tried); u == nil {
			got["none"]++
		} else {
			got[u.ID]++
		}
	}
	return got
}

func TestPickStates(t *testing.T) {
	for _, tt := range []struct{ members, want string }{
		{"", "none"},
		{"a:100", "a"},
		{"a:100 b:100", "a b"},
		{"a:100 b:100/draining", "a"},
		{"a:100 b:100/starting", "a"},
		{"a:100 b:100/failing", "a"},
		{"a:100/failing b:100/failing", "a b"},
		{"a:100/failing b:100/draining", "a"},
		{"a:100/draining b:100/starting", "none"},
		{"a:100 b:0", "a"},
		{"a:0", "none"},
		{"a:1 b:65535/failing c:65535/draining", "a"},
		{"a:10 b:20 c:30/failing d:40", "a b d"},
		{"a:100/failing b:100/failing c:100/failing d:100/failing e:100/failing f:100/failing g:100/failing h:100", "h"},
	} {
		s, _ := service(t, tt.members)
		got := picks(s, 3000)
		var ids []string
		for id := range got {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		if strings.Join(ids, " ") != tt.want {
			t.Errorf("Pick of %q: %v, want only %s", tt.members, got, tt.want)
		}
	}
}

func TestPickFollowsStateChanges(t *testing.T) {
	s, ms := service(t, "a:100 b:100")
	ms[0].SetState(Leaving)
	if got := picks(s, 1000); got["b"] != 1000 {
		t.Errorf("a is leaving: %v, want only b", got)
	}
	ms[1].SetFailing("refused")
	if got := picks(s, 1000); got["b"] != 1000 {
		t.Errorf("b fails, and is all there is: %v, want only b", got)
	}
	ms[0].SetState(Up)
	if got := picks(s, 1000); got["a"] != 1000 {
		t.Errorf("a is back: %v, want only a", got)
	}
}

func TestPickExcludesTried(t *testing.T) {
	s, ms := service(t, "a:100 b:100 c:1")
	if got := picks(s, 1000, ms[0].Upstream, ms[1].Upstream); got["c"] != 1000 {
		t.Errorf("a and b tried: %v, want only c", got)
	}
	if got := picks(s, 10, ms[0].Upstream, ms[1].Upstream, ms[2].Upstream); got["none"] != 10 {
		t.Errorf("all tried: %v, want none", got)
	}
	ms[2].SetFailing("refused")
	if got := picks(s, 10, ms[0].Upstream, ms[1].Upstream); got["none"] != 10 {
		t.Errorf("two that pass were tried, the third fails: %v, want none", got)
	}
}

// Without any load the shares are the weights'.
func TestPickWeights(t *testing.T) {
	const n = 100_000
	for _, text := range []string{"a:100 b:100", "a:100 b:200", "a:1 b:9", "a:10 b:20 c:70", "a:100 b:100 c:100 d:100 e:100"} {
		s, ms := service(t, text)
		sum := 0
		for _, m := range ms {
			sum += m.Weight
		}
		got := picks(s, n)
		for _, m := range ms {
			want := float64(n*m.Weight) / float64(sum)
			if off := math.Abs(float64(got[m.ID]) - want); off > 6*math.Sqrt(want) {
				t.Errorf("%s: %s got %d of %d, want about %.0f", text, m.ID, got[m.ID], n, want)
			}
		}
	}
}

// Of two the less loaded is always taken, load being in flight for each unit of
// weight.
func TestPickLeastLoaded(t *testing.T) {
	s, ms := service(t, "a:100 b:100")
	for range 1000 {
		u := s.Pick(nil)
		u.Begin(0)
		if a, b := ms[0].InFlight(), ms[1].InFlight(); a-b > 1 || b-a > 1 {
			t.Fatalf("in flight: %d and %d, want never more than one apart", a, b)
		}
	}
	s, ms = service(t, "a:100 b:300")
	for range 4000 {
		s.Pick(nil).Begin(0)
	}
	if a := ms[0].InFlight(); a < 900 || a > 1100 {
		t.Errorf("weights 1 to 3: %d of 4000 in flight on the first, want about 1000", a)
	}
}

// Choosing the better of two keeps the worst load near the average, where one
// random choice does not.
func TestPickSpread(t *testing.T) {
	text := strings.Repeat("x:100 ", 100)
	s, ms := service(t, text)
	for range 100 * 100 {
		s.Pick(nil).Begin(0)
	}
	for _, m := range ms {
		if n := m.InFlight(); n > 106 {
			t.Errorf("%d in flight on one of 100 with 100 each, want at most a few more", n)
		}
	}
}

func TestPickAllocs(t *testing.T) {
	for _, text := range []string{"a:100 b:100 c:100", "a:10 b:20 c:30", "a:100 b:100/failing", "a:100/failing b:100/failing"} {
		s, _ := service(t, text)
		if n := testing.AllocsPerRun(1000, func() {
			at := s.Attempts("GET")
			u := at.First().To
			at.Next(Failure{Kind: Refused, BodyKept: true})
			u.End(1000, false)
		}); n != 0 {
			t.Errorf("%q: %v allocations for a request, want 0", text, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, bb := range []struct{ name, members string }{
		{"2", strings.Repeat("x:100 ", 2)},
		{"100", strings.Repeat("x:100 ", 100)},
		{"10000", strings.Repeat("x:100 ", 10_000)},
		{"10000-weighted", strings.Repeat("x:100 y:50 ", 5_000)},
		{"10000-half-failing", strings.Repeat("x:100 y:100/failing ", 5_000)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s, _ := service(b, bb.members)
			b.ReportAllocs()
			for b.Loop() {
				s.Pick(nil)
			}
		})
	}
}
