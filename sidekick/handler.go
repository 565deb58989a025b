package sidekick

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Handler serves GET /healthz (503 when a loop is stuck), /readyz (503 while the
// app is not announced), /status (the [Report]) and /metrics, and takes the
// app's POST /beat. Who can reach it can beat.
func (s *Sidekick) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Stuck(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		st := s.Status()
		if !st.Announced {
			http.Error(w, "not announced: "+st.String(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(s.Report()) // the reader may have gone
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = io.WriteString(w, Metrics(s.Report()))
	})
	mux.HandleFunc("POST /beat", func(w http.ResponseWriter, _ *http.Request) {
		s.Beat()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
