package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/discovery"
	"muster/proxy"
)

// A Status is everything the page shows. It is what /api/v1/status answers.
type Status struct {
	At        time.Time `json:"at"`
	Host      string    `json:"host"`
	Version   string    `json:"version,omitempty"`
	Started   time.Time `json:"started"`
	Ready     bool      `json:"ready"`
	NotReady  string    `json:"not_ready,omitempty"` // why
	Listeners []string  `json:"listeners"`

	// Settings are those that listeners have set, by address, and where.
	Settings map[string]map[string]proxy.Setting `json:"settings,omitempty"`
	Store    *Source                             `json:"store,omitempty"` // absent where there is none

	Total    Traffic             `json:"total"` // of all services
	Services []Service           `json:"services"`
	Omitted  int                 `json:"omitted,omitempty"` // endpoints beyond the first 2,000: counted, not listed
	Routes   []proxy.RouteStatus `json:"routes"`
	Refused  map[int]uint64      `json:"refused"` // answers made without a service, by status
	Notes    []Note              `json:"notes"`   // the worst first
}

// A Source is the store, and how fresh what it said is.
type Source struct {
	URL string `json:"url,omitempty"`
	discovery.Status
	Age float64 `json:"age_s"` // since the last proof of freshness; -1: there was none
}

// A Service is one service in a Status.
type Service struct {
	Name      string                   `json:"name"`
	State     string                   `json:"state"`   // up: all endpoints are, part: some, down: none
	Summary   string                   `json:"summary"` // "2 up, 1 failing"
	Exposed   bool                     `json:"exposed"`
	Routes    []string                 `json:"routes"` // that lead to it
	Traffic                            // counts whole requests
	Retries   uint64                   `json:"retries"`
	Queued    int64                    `json:"queued,omitempty"`   // of those in flight: they wait for an endpoint
	Settings  map[string]proxy.Setting `json:"settings,omitempty"` // those that are set, and where
	Endpoints []Endpoint               `json:"endpoints"`
}

// An Endpoint is one endpoint in a Status.
type Endpoint struct {
	ID      string  `json:"id"`
	Addr    string  `json:"addr"`
	State   string  `json:"state"`
	Reason  string  `json:"reason,omitempty"`
	Weight  int     `json:"weight"`
	Share   float64 `json:"share"` // of the service's requests, 0 to 1
	Traffic         // counts tries: a request that is tried again counts at both
}

// A Traffic is what goes through: a rate and quantiles of the last 10 seconds,
// errors of the last 60.
type Traffic struct {
	Rate     float64 `json:"rps"`
	P50      float64 `json:"p50_ms"` // 0 where nothing was asked
	P99      float64 `json:"p99_ms"`
	Errors   uint64  `json:"errors"`
	ErrorPct float64 `json:"error_percent"`
	InFlight int64   `json:"in_flight"`
	History  History `json:"history"`
}

// A History holds a value a second, the oldest first, of at most a minute. In
// the events after the first of a stream it holds the newest only.
type History struct {
	Rate     []float64 `json:"rps"`
	Errors   []float64 `json:"eps"`
	P99      []float64 `json:"p99_ms,omitempty"`    // of the total only
	InFlight []float64 `json:"in_flight,omitempty"` // likewise
}

// traffic sums a row up.
func (r *row) traffic() Traffic {
	var t Traffic
	if r == nil || len(r.points) == 0 {
		return t
	}
	n := len(r.points)
	newest, oldest := r.points[n-1], r.points[0]
	t.InFlight = newest.inFlight
	t.Errors = newest.errors - oldest.errors
	if all := newest.requests - oldest.requests; all > 0 {
		t.ErrorPct = round(100*float64(t.Errors)/float64(all), 100)
	}
	t.Rate = rate(r.points[max(0, n-1-window)], newest, requests)
	between := minus(r.latency[len(r.latency)-1], r.latency[max(0, len(r.latency)-1-window)])
	t.P50, t.P99 = ms(between.Quantile(0.5)), ms(between.Quantile(0.99))
	t.History = History{Rate: make([]float64, 0, n-1), Errors: make([]float64, 0, n-1)}
	for i := range n - 1 {
		t.History.Rate = append(t.History.Rate, rate(r.points[i], r.points[i+1], requests))
		t.History.Errors = append(t.History.Errors, rate(r.points[i], r.points[i+1], failures))
	}
	return t
}

// total is traffic with what only the sum of all services remembers.
func (r *row) total() Traffic {
	t := r.traffic()
	for i := 1; i < len(r.latency); i++ {
		t.History.P99 = append(t.History.P99, ms(minus(r.latency[i], r.latency[i-1]).Quantile(0.99)))
	}
	for _, p := range r.points[1:] {
		t.History.InFlight = append(t.History.InFlight, float64(p.inFlight))
	}
	return t
}

func requests(p point) uint64 { return p.requests }
func failures(p point) uint64 { return p.errors }

// rate is what was counted from a to b, a second.
func rate(a, b point, count func(point) uint64) float64 {
	seconds := b.at.Sub(a.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return round(float64(count(b)-count(a))/seconds, 10)
}

func ms(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 1000) }

func round(v, unit float64) float64 { return math.Round(v*unit) / unit }

// makeStatus makes the Status of the last sample. The sampler's lock is held.
func (a *Admin) makeStatus(now time.Time) Status {
	s, st := a.sampler, Status{
		At: a.sampler.at, Host: a.host, Version: a.cfg.Version, Started: a.started,
		NotReady: a.notReady(a.sampler.last.Ready), Listeners: orEmpty(a.sampler.last.Listeners), Settings: a.sampler.last.Settings,
		Total: a.sampler.rows[rowKey{}].total(), Services: []Service{}, Omitted: a.sampler.omitted,
		Routes: orEmpty(a.sampler.last.Routes), Refused: a.sampler.last.Refused, Notes: []Note{},
	}
	st.Ready = st.NotReady == ""
	for _, svc := range s.last.Services {
		st.Services = append(st.Services, s.service(svc))
	}
	if a.cfg.Store != nil {
		src := &Source{URL: a.cfg.StoreURL, Status: a.cfg.Store.Status(), Age: -1}
		if !src.Proof.IsZero() {
			src.Age = round(max(0, now.Sub(src.Proof).Seconds()), 10)
		}
		st.Store = src
		st.Notes = src.notes()
	}
	if a.cfg.Notes != nil {
		st.Notes = append(st.Notes, a.cfg.Notes()...)
	}
	slices.SortStableFunc(st.Notes, func(a, b Note) int { return cmp.Compare(b.Level, a.Level) })
	return st
}

func orEmpty[E any](s []E) []E {
	if s == nil {
		return []E{}
	}
	return s
}

// service makes one Service of the last sample.
func (s *sampler) service(in proxy.ServiceStatus) Service {
	svc := Service{
		Name: in.Name, Exposed: in.Exposed, Retries: in.Retries, Queued: in.Queued, Settings: in.Settings, Routes: []string{}, Endpoints: []Endpoint{},
		Traffic: s.rows[rowKey{service: in.Name}].traffic(),
	}
	svc.State, svc.Summary = summary(in.Upstreams, in.More)
	for _, r := range s.last.Routes {
		if r.Service == in.Name {
			svc.Routes = append(svc.Routes, r.Match)
		}
	}
	var sum float64
	for _, u := range in.Upstreams {
		r := s.rows[rowKey{in.Name, u.ID, u.Addr}]
		e := Endpoint{ID: u.ID, Addr: u.Addr, State: u.State, Reason: u.Reason, Weight: u.Weight, Traffic: r.traffic()}
		sum += e.Rate
		svc.Endpoints = append(svc.Endpoints, e)
	}
	for i := range svc.Endpoints {
		if e := &svc.Endpoints[i]; sum > 0 {
			e.Share = round(e.Rate/sum, 1000)
		}
	}
	return svc
}

// states are the words for an endpoint, in the order in which they are counted.
var states = []string{"up", "starting", "draining", "failing", "leaving"}

// summary counts endpoints by state: those that are listed and more.
func summary(upstreams []proxy.UpstreamStatus, more map[string]int) (state, text string) {
	count, all := make(map[string]int), len(upstreams)
	for state, n := range more {
		count[state] += n
		all += n
	}
	for _, u := range upstreams {
		count[u.State]++
	}
	for _, s := range states {
		if n := count[s]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, s)
		}
	}
	switch {
	case text == "":
		return "down", "no endpoint"
	case count["up"] == 0:
		return "down", text[2:]
	case count["up"] < all:
		return "part", text[2:]
	default:
		return "up", text[2:]
	}
}

// maxBad is how many bad entries get a note of their own.
const maxBad = 20

// notes says what is wrong with the store or in it.
func (s *Source) notes() []Note {
	notes := []Note{}
	add := func(level slog.Level, format string, args ...any) {
		notes = append(notes, Note{Level: level, Text: fmt.Sprintf(format, args...)})
	}
	cause := ""
	if s.Err != "" {
		cause = ": " + s.Err
	}
	switch {
	case !s.Ready:
		add(slog.LevelError, "The store has not answered yet, so every request gets 503%s", cause)
	case s.Origin == discovery.FromDisk:
		add(slog.LevelError, "The store has not answered yet. What this balancer knew %s ago, revision %d, is served from its disk%s", seconds(s.Age), s.Revision, cause)
	case s.Stale:
		add(slog.LevelError, "The store gave no sign of life for %s. What it said last, revision %d, goes on serving%s", seconds(s.Age), s.Revision, cause)
	case s.Err != "":
		add(slog.LevelWarn, "The store has trouble%s", cause)
	}
	switch p := s.Protection; {
	case p.Held == 1:
		add(slog.LevelError, "One endpoint of %s expired and stays while it answers its check", some(p.Services))
	case p.Held > 1:
		add(slog.LevelError, "Many endpoints expired at once: %d of %s stay while they answer their check", p.Held, some(p.Services))
	}
	if s.Protection.Off {
		add(slog.LevelWarn, "The protection against mass expiry is off: /muster/protect says so")
	}
	for i, b := range s.Bad {
		if i == maxBad {
			add(slog.LevelWarn, "%d more entries can't be read; /api/v1/status lists them all", len(s.Bad)-maxBad)
			break
		}
		use := "it is left out until it is put right"
		if b.Kept {
			use = "its last good form stays in use"
		}
		add(slog.LevelWarn, "Entry %s = %s can't be read: %s; %s", b.Key, quote(b.Value), b.Err, use)
	}
	return notes
}

// some are the first of names, and how many more there are.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more services", strings.Join(names[:few], ", "), len(names)-few)
}

// quote keeps the quotes of JSON readable.
func quote(value string) string {
	if strings.Contains(value, `"`) && strconv.CanBackquote(value) {
		return "`" + value + "`"
	}
	return strconv.Quote(value)
}

// A view is the last sample as people get it, made when the first asks.
type view struct {
	number     uint64
	status     Status
	full, tick []byte // JSON; tick has the newest of each History only
}

// view returns the view of the last sample, and what is closed at the next.
func (a *Admin) view() (*view, <-chan struct{}) {
	s := a.sampler
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		s.view = &view{number: s.number, status: a.makeStatus(time.Now())}
		s.view.full = encode(s.view.status)
		s.view.tick = encode(s.view.status.newest())
	}
	return s.view, s.newer
}

func encode(s Status) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a status is always JSON: " + err.Error())
	}
	return text
}

// newest is s with the newest of each History only.
func (s Status) newest() Status {
	s.Total.History = s.Total.History.newest()
	s.Services = slices.Clone(s.Services)
	for i := range s.Services {
		svc := &s.Services[i]
		svc.History = svc.History.newest()
		svc.Endpoints = slices.Clone(svc.Endpoints)
		for j := range svc.Endpoints {
			svc.Endpoints[j].History = svc.Endpoints[j].History.newest()
		}
	}
	return s
}

func (h History) newest() History {
	return History{tail(h.Rate), tail(h.Errors), tail(h.P99), tail(h.InFlight)}
}

func tail[E any](s []E) []E { return s[max(0, len(s)-1):] }

func (a *Admin) status(w http.ResponseWriter, _ *http.Request) {
	v, _ := a.view()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(v.full)
}
