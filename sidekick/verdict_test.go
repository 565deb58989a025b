package sidekick

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestVerdict(t *testing.T) {
	const start = 10 * time.Second
	for name, tt := range map[string]struct {
		results string // + passes, - fails, one a second; what the health is after each is in want
		want    string // u undecided, p passing, f failing
	}{
		"up after rise":                        {"++++", "uppp"},
		"a failure between passes starts anew": {"+-+-++", "uuuuup"},
		"failing after fall":                   {"++---", "upppf"},
		"a pass between failures starts anew":  {"++--+--+", "uppppppp"},
		"up again after rise":                  {"++---+-++", "upppffffp"},
		"failures of a start don't count":      {"---------++", "uuuuuuuuuup"},
		"but those after the first pass do":    {"+---", "uuuf"},
		"and those after the start period":     {"--------------", "uuuuuuuuuuuuff"},
	} {
		t.Run(name, func(t *testing.T) {
			v := verdict{rise: 2, fall: 3, startPeriod: start}
			var got strings.Builder
			for i, r := range tt.results {
				before := v.health
				changed := v.add(r == '+', time.Duration(i)*time.Second)
				if changed != (v.health != before) {
					t.Errorf("add %d: got changed %v, from %v to %v", i, changed, before, v.health)
				}
				got.WriteByte("upf"[v.health])
			}
			if got.String() != tt.want {
				t.Errorf("verdicts of %s:\n got %s\nwant %s", tt.results, got.String(), tt.want)
			}
		})
	}
}

// A script is a check whose results are written down: + passes, - fails. The
// last one stays.
type script struct {
	results string
	at      []time.Duration // when each check came
	began   time.Time
}

func (s *script) check() check {
	s.began = time.Now()
	return check{"script:", func(context.Context) error {
		i := min(len(s.at), len(s.results)-1)
		s.at = append(s.at, time.Since(s.began))
		if s.results[i] == '-' {
			return errors.New("as written")
		}
		return nil
	}}
}

func TestChecksComeFastUntilTheFirstVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := script{results: "--++"}
		s := &Sidekick{
			cfg:    Config{Lease: noLease{}}.withDefaults(),
			checks: []check{sc.check()},
			news:   make(chan finding, 1),
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s.check(ctx)
		if f := <-s.news; f.health != passing || f.reason != "check passes" {
			t.Errorf("got health %v, reason %q: want passing", f.health, f.reason)
		}
		for i, at := range sc.at[1:] {
			pause, want := at-sc.at[i], 2*time.Second
			if i < 3 {
				want = 250 * time.Millisecond
			}
			if pause < want*9/10 || pause > want*11/10 {
				t.Errorf("pause %d: got %v: want %v ± 10 %%", i, pause, want)
			}
		}
		if n := len(sc.at); n < 8 || n > 10 {
			t.Errorf("got %d checks in 10s: want 4 in the first second and one each 2s then", n)
		}
	})
}

func TestChecksComeFastWhileTheyDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// f: the next check comes fast, s: it comes after the interval.
		sc := script{results: "+++-+---" + "-+-++" + "+"}
		const want = "fssfsffs" + "sfsfs"
		s := &Sidekick{
			cfg:    Config{Lease: noLease{}}.withDefaults(),
			checks: []check{sc.check()},
			news:   make(chan finding, 1),
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.check(ctx)
		var got strings.Builder
		for i, at := range sc.at[1 : len(want)+1] {
			switch pause := at - sc.at[i]; {
			case pause >= 225*time.Millisecond && pause <= 275*time.Millisecond:
				got.WriteByte('f')
			case pause >= 1800*time.Millisecond && pause <= 2200*time.Millisecond:
				got.WriteByte('s')
			default:
				t.Errorf("pause %d: got %v: want 250ms or 2s, ± 10 %%", i, pause)
			}
		}
		if got.String() != want {
			t.Errorf("pauses of %s: got %s: want %s", sc.results, got.String(), want)
		}
	})
}

func TestAnAppThatFlapsProvesItselfSlowly(t *testing.T) {
	v := verdict{rise: 2, fall: 3}
	age := time.Duration(0)
	add := func(results string) {
		for _, r := range results {
			age += time.Second
			v.add(r == '+', age)
		}
	}
	add("++---++---++---+")
	if v.penalty != 0 || !v.deciding() {
		t.Fatalf("before the 7th change: got penalty %d, deciding %v: want 0, true", v.penalty, v.deciding())
	}
	add("+---+++")
	if v.penalty == 0 || v.health != failing || v.deciding() {
		t.Errorf("flapping and down: got penalty %d, health %v, deciding %v: want passes at the interval", v.penalty, v.health, v.deciding())
	}
	add("+++++-")
	if v.penalty == 0 || v.health != passing || !v.deciding() {
		t.Errorf("flapping and up: got penalty %d, health %v, deciding %v: want failures fast", v.penalty, v.health, v.deciding())
	}
}

func TestANewerFindingReplacesTheOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := script{results: "++---"}
		s := &Sidekick{
			cfg:    Config{Lease: noLease{}}.withDefaults(),
			checks: []check{sc.check()},
			news:   make(chan finding, 1),
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.check(ctx) // nobody takes
		f := <-s.news
		if f.health != failing || f.reason != `check "script:": as written` {
			t.Errorf("got health %v, reason %q: want failing, and the check's own error", f.health, f.reason)
		}
	})
}

func TestAFindingIsCurrentUntilTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := script{results: "++---"}
		s := &Sidekick{
			cfg:    Config{Lease: noLease{}}.withDefaults(),
			checks: []check{sc.check()},
			news:   make(chan finding, 1),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.check(ctx); close(done) }()
		up := <-s.news
		if err := up.current.Err(); err != nil {
			t.Errorf("the newest finding: got %v: want it to be current", err)
		}
		<-up.current.Done()
		if f := <-s.news; f.health != failing {
			t.Errorf("got health %v: want failing", f.health)
		}
		cancel()
		<-done
	})
}
