package sidekick

import (
	"fmt"
	"net/http"
)

// Handler serves GET /healthz (503 when a loop is stuck), /readyz (503 while the
// app is not announced), /status (the [Report]) and /metrics, and takes the
// app's POST /beat. Who can reach it can beat.
func (s *Sidekick) Handler() http.Handler {
	mux := http.NewServeMux()
	handleHealth(mux, s.Stuck)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		st := s.Status()
		if !st.Announced {
			http.Error(w, "not announced: "+st.String(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Report()) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { writeMetrics(w, []Report{s.Report()}) })
	mux.HandleFunc("POST /beat", func(w http.ResponseWriter, _ *http.Request) {
		s.Beat()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
