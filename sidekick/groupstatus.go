package sidekick

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Status is the group's in one: Starting while one of them is, else Failing
// while one of them is, else Up. It is Announced when none is starting and the
// store has what it should have of each.
func (g *Group) Status() Status {
	all := slices.DeleteFunc(g.all(), func(m *member) bool { return m.going.Load() })
	g.mu.Lock()
	wanted, leaving := len(g.wanted), g.leaving
	g.mu.Unlock()
	st := Status{State: Up, Announced: len(all) == wanted}
	announced := 0
	for _, m := range all {
		one := m.side.Status()
		if one.Announced {
			announced++
		}
		switch {
		case one.State == Starting:
			st.State, st.Announced = Starting, false
		case one.State == Failing && st.State == Up:
			st.State = Failing
		case one.State == Up && !one.Announced, one.Trouble != "":
			st.Announced = false
		}
		if one.Since.After(st.Since) {
			st.Since = one.Since
		}
		if one.Trouble != "" && st.Trouble == "" {
			st.Trouble = m.name() + ": " + one.Trouble
		}
		if one.Reason != "" && st.Reason == "" {
			st.Reason = "; " + m.name() + ": " + one.Reason
		}
	}
	st.Reason = fmt.Sprintf("%d of %d announced", announced, wanted) + st.Reason
	if leaving {
		st.State, st.Announced = Draining, false
	}
	return st
}

// name is the member's, for people.
func (m *member) name() string { return m.cfg.Service + "/" + m.side.cfg.ID }

// tell tells Notify of a Status that is another.
func (g *Group) tell() {
	if g.cfg.Notify == nil {
		return
	}
	g.telling.Lock()
	defer g.telling.Unlock()
	if st := g.Status(); st != g.told {
		g.told = st
		g.cfg.Notify(st)
	}
}

// Reports are how the sidekicks are doing now, in the order of their keys.
func (g *Group) Reports() []Report {
	reports := []Report{}
	for _, m := range g.all() {
		reports = append(reports, m.side.Report())
	}
	return reports
}

// Stuck says which part of which sidekick no longer does its work, see
// [Sidekick.Stuck].
func (g *Group) Stuck() error {
	for _, m := range g.all() {
		if err := m.side.Stuck(); err != nil {
			return fmt.Errorf("%s: %w", m.name(), err)
		}
	}
	return nil
}

// Beat is that of the service's app with that ID, or of all apps of the service
// where id is empty. It reports whether there is one.
func (g *Group) Beat(service, id string) (known bool) {
	for _, m := range g.all() {
		if m.cfg.Service == service && (id == "" || m.side.cfg.ID == id) {
			m.side.Beat()
			known = true
		}
	}
	return known
}

// Handler serves what [Sidekick.Handler] does for all of them: /readyz is 503
// while one of them is not announced, /status is a list, and a beat names its
// app: POST /beat/SERVICE or /beat/SERVICE/ID.
func (g *Group) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", okUnless(g.Stuck))
	mux.HandleFunc("GET /readyz", okUnless(g.unready))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, g.Reports()) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { writeMetrics(w, g.Reports()...) })
	beat := func(w http.ResponseWriter, r *http.Request) {
		if !g.Beat(r.PathValue("service"), r.PathValue("id")) {
			http.Error(w, "nobody of that name is announced here", http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
	mux.HandleFunc("POST /beat/{service}", beat)
	mux.HandleFunc("POST /beat/{service}/{id}", beat)
	return mux
}

// unready says which are not announced, and why.
func (g *Group) unready() error {
	var not []string
	for _, m := range g.all() {
		if st := m.side.Status(); !st.Announced {
			not = append(not, m.name()+": "+st.String())
		}
	}
	if n := g.unstarted(); n > 0 {
		not = append(not, fmt.Sprintf("%d are not started yet", n))
	}
	if len(not) > 0 {
		return errors.New("not announced: " + strings.Join(not, "\n"))
	}
	return nil
}

// unstarted is how many are wanted and have no sidekick yet.
func (g *Group) unstarted() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for at := range g.wanted {
		if g.members[at] == nil {
			n++
		}
	}
	return n
}
