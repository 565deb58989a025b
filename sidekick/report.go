package sidekick

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Report is all that can be told of a sidekick, as JSON too.
type Report struct {
	Service   string    `json:"service"`
	ID        string    `json:"id"`
	Addr      string    `json:"addr"`
	State     string    `json:"state"` // see Status
	Reason    string    `json:"reason,omitempty"`
	Since     time.Time `json:"since"`
	Announced bool      `json:"announced"`
	Trouble   string    `json:"trouble,omitempty"`
	Stuck     string    `json:"stuck,omitempty"`
	Lease     string    `json:"lease"` // hexadecimal, as etcdctl prints it; 0: none
	Rise      int       `json:"rise"`  // passes in a row that are needed now
	Checks    []Checked `json:"checks"`
	Counts    Counts    `json:"counts"`
}

// A Checked is what one check said last.
type Checked struct {
	Spec   string    `json:"spec"`
	Pass   bool      `json:"pass"`
	Error  string    `json:"error,omitempty"`
	At     time.Time `json:"at"`
	TookMS float64   `json:"took_ms"`
}

// Counts are since the start.
type Counts struct {
	Passes      int64 `json:"passes"`       // rounds of checks
	Failures    int64 `json:"failures"`     // rounds of checks
	Ups         int64 `json:"ups"`          // changes of the state to up
	Failings    int64 `json:"failings"`     // changes of the state to failing
	Writes      int64 `json:"writes"`       // that the store took
	WriteErrors int64 `json:"write_errors"` // attempts that it did not take
	LeasesLost  int64 `json:"leases_lost"`
	Beats       int64 `json:"beats"`
}

// Report is how the sidekick is doing now.
func (s *Sidekick) Report() Report {
	stuck := s.Stuck()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{
		Service: s.cfg.Service, ID: s.cfg.ID, Addr: s.cfg.Addr,
		State: s.status.State, Reason: s.status.Reason, Since: s.status.Since,
		Announced: s.status.Announced, Trouble: s.status.Trouble,
		Lease:  fmt.Sprintf("%x", s.cfg.Lease.ID()),
		Rise:   s.rise,
		Checks: make([]Checked, 0, len(s.results)),
		Counts: s.counts,
	}
	r.Counts.Beats = s.beats.count()
	if stuck != nil {
		r.Stuck = stuck.Error()
	}
	for _, c := range s.results {
		checked := Checked{Spec: c.spec, Pass: c.err == nil, At: c.at, TookMS: float64(c.took.Microseconds()) / 1000}
		if c.err != nil {
			checked.Error = c.err.Error()
		}
		r.Checks = append(r.Checks, checked)
	}
	return r
}

// count keeps what a round of checks said.
func (s *Sidekick) count(results []result, v *verdict, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results, s.rise = results, v.needed()
	if slices.ContainsFunc(results, func(r result) bool { return r.err != nil }) {
		s.counts.Failures++
	} else {
		s.counts.Passes++
	}
	switch {
	case !changed:
	case v.health == passing:
		s.counts.Ups++
	default:
		s.counts.Failings++
	}
}

// A metric is one family in Prometheus' text format.
type metric struct {
	name, kind, help string
	values           []sample
}

type sample struct {
	labels map[string]string // beside service and endpoint
	value  float64
}

// Metrics is the report in Prometheus' text format. (The
// library for it has no place in the small binary; see imports_test.go.)
func (r Report) Metrics() string {
	var states, checks []sample
	for _, state := range []string{Starting, Up, Failing, Draining, Left} {
		states = append(states, sample{map[string]string{"state": state}, one(r.State == state)})
	}
	for _, c := range r.Checks {
		checks = append(checks, sample{map[string]string{"check": c.Spec}, one(c.Pass)})
	}
	counts := func(label string, values map[string]int64) (all []sample) {
		for _, k := range slices.Sorted(maps.Keys(values)) {
			all = append(all, sample{map[string]string{label: k}, float64(values[k])})
		}
		return all
	}
	plain := func(v float64) []sample { return []sample{{nil, v}} }
	var b strings.Builder
	for _, m := range []metric{
		{"announced", "gauge", "1 while the store has the announcement, as far as is known.", plain(one(r.Announced))},
		{"state", "gauge", "1 for the state it is in.", states},
		{"check_passing", "gauge", "1 for a check that passed the last time.", checks},
		{"checks_total", "counter", "Rounds of all checks.", counts("result", map[string]int64{"pass": r.Counts.Passes, "fail": r.Counts.Failures})},
		{"transitions_total", "counter", "Changes of the state by checks.", counts("to", map[string]int64{Up: r.Counts.Ups, Failing: r.Counts.Failings})},
		{"rise", "gauge", "Passes in a row that are needed; more than -rise while the app is flapping.", plain(float64(r.Rise))},
		{"writes_total", "counter", "Attempts to change the announcement.", counts("result", map[string]int64{"done": r.Counts.Writes, "failed": r.Counts.WriteErrors})},
		{"leases_lost_total", "counter", "Leases that ended while the app was announced.", plain(float64(r.Counts.LeasesLost))},
		{"beats_total", "counter", "Beats of the app.", plain(float64(r.Counts.Beats))},
		{"stuck", "gauge", "1 while a loop is stuck, see /healthz.", plain(one(r.Stuck != ""))},
	} {
		if len(m.values) == 0 {
			continue
		}
		name := "muster_sidekick_" + m.name
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, m.help, name, m.kind)
		for _, v := range m.values {
			fmt.Fprintf(&b, "%s{service=%s,endpoint=%s", name, label(r.Service), label(r.ID))
			for _, k := range slices.Sorted(maps.Keys(v.labels)) {
				fmt.Fprintf(&b, ",%s=%s", k, label(v.labels[k]))
			}
			fmt.Fprintf(&b, "} %g\n", v.value)
		}
	}
	return b.String()
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// label is a label's value as the format writes it.
func label(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(text) + `"`
}
