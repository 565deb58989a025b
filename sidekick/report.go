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
	Lease     string    `json:"lease"`                 // hexadecimal, as etcdctl prints it; 0: none
	LeaseAgeS *float64  `json:"lease_age_s,omitempty"` // since the store granted or renewed it last; nil: never
	LeaseTTLS float64   `json:"lease_ttl_s"`
	Rise      int       `json:"rise"` // passes in a row that are needed now
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
	Conflicts   int64 `json:"conflicts"` // others that were found to hold the key
	Beats       int64 `json:"beats"`
}

// A renewing lease can tell its age.
type renewing interface {
	// Renewed is when the store granted or renewed it last; zero: never.
	Renewed() time.Time
}

// leaseAge is how long ago the lease was renewed, in seconds; nil: never.
func (s *Sidekick) leaseAge() *float64 {
	lease, ok := s.cfg.Lease.(renewing)
	if !ok {
		return nil
	}
	at := lease.Renewed()
	if at.IsZero() {
		return nil
	}
	age := time.Since(at).Seconds()
	return &age
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
		Lease:     fmt.Sprintf("%x", s.cfg.Lease.ID()),
		LeaseAgeS: s.leaseAge(), LeaseTTLS: s.cfg.TTL.Seconds(),
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
	of               func(Report) []sample
}

type sample struct {
	labels map[string]string // beside service and endpoint
	value  float64
}

// metrics are those of every report.
var metrics = []metric{
	{"announced", "gauge", "1 while the store has the announcement, as far as is known.", single(func(r Report) float64 { return one(r.Announced) })},
	{"state", "gauge", "1 for the state it is in.", func(r Report) (all []sample) {
		for _, state := range []string{Starting, Up, Failing, Draining, Left} {
			all = append(all, sample{map[string]string{"state": state}, one(r.State == state)})
		}
		return all
	}},
	{"lease_age_seconds", "gauge", "Time since the store granted or renewed the lease last; a third of the TTL and some seconds at most while all is well.", func(r Report) []sample {
		if r.LeaseAgeS == nil {
			return nil
		}
		return []sample{{nil, *r.LeaseAgeS}}
	}},
	{"lease_ttl_seconds", "gauge", "Age of the lease at which the announcement is gone.", single(func(r Report) float64 { return r.LeaseTTLS })},
	{"check_passing", "gauge", "1 for a check that passed the last time.", checks(func(c Checked) float64 { return one(c.Pass) })},
	{"check_seconds", "gauge", "Time that a check took the last time.", checks(func(c Checked) float64 { return c.TookMS / 1000 })},
	{"checks_total", "counter", "Rounds of all checks.", func(r Report) []sample {
		return counts("result", map[string]int64{"pass": r.Counts.Passes, "fail": r.Counts.Failures})
	}},
	{"transitions_total", "counter", "Changes of the state by checks.", func(r Report) []sample {
		return counts("to", map[string]int64{Up: r.Counts.Ups, Failing: r.Counts.Failings})
	}},
	{"rise", "gauge", "Passes in a row that are needed; more than -rise while the app is flapping.", single(func(r Report) float64 { return float64(r.Rise) })},
	{"writes_total", "counter", "Attempts to change the announcement.", func(r Report) []sample {
		return counts("result", map[string]int64{"done": r.Counts.Writes, "failed": r.Counts.WriteErrors})
	}},
	{"conflicts_total", "counter", "Others that were found to hold the key.", single(func(r Report) float64 { return float64(r.Counts.Conflicts) })},
	{"leases_lost_total", "counter", "Leases that ended while the app was announced.", single(func(r Report) float64 { return float64(r.Counts.LeasesLost) })},
	{"beats_total", "counter", "Beats of the app.", single(func(r Report) float64 { return float64(r.Counts.Beats) })},
	{"stuck", "gauge", "1 while a loop is stuck, see /healthz.", single(func(r Report) float64 { return one(r.Stuck != "") })},
}

// single is a metric with one value.
func single(value func(Report) float64) func(Report) []sample {
	return func(r Report) []sample { return []sample{{nil, value(r)}} }
}

// checks is a metric with a value for each check.
func checks(value func(Checked) float64) func(Report) []sample {
	return func(r Report) (all []sample) {
		for _, c := range r.Checks {
			all = append(all, sample{map[string]string{"check": c.Spec}, value(c)})
		}
		return all
	}
}

// counts are values by label, in its order.
func counts(label string, values map[string]int64) (all []sample) {
	for _, k := range slices.Sorted(maps.Keys(values)) {
		all = append(all, sample{map[string]string{label: k}, float64(values[k])})
	}
	return all
}

// Metrics are the reports in Prometheus' text format. (The library for it has no
// place in the small binary; see imports_test.go.)
func Metrics(reports ...Report) string {
	var b strings.Builder
	for _, m := range metrics {
		name := "muster_sidekick_" + m.name
		head := fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", name, m.help, name, m.kind)
		for _, r := range reports {
			for _, v := range m.of(r) {
				fmt.Fprintf(&b, "%s%s{service=%s,endpoint=%s", head, name, label(r.Service), label(r.ID))
				for _, k := range slices.Sorted(maps.Keys(v.labels)) {
					fmt.Fprintf(&b, ",%s=%s", k, label(v.labels[k]))
				}
				fmt.Fprintf(&b, "} %g\n", v.value)
				head = ""
			}
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
