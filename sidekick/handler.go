package sidekick

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Handler serves GET /healthz (503 when a loop is stuck), /readyz (503 while the
// app is not announced), /status (the [Report]) and /metrics, and takes the
// app's POST /beat. Who can reach it can beat.
func (s *Sidekick) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", okUnless(s.Stuck))
	mux.HandleFunc("GET /readyz", okUnless(s.unready))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Report()) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { writeMetrics(w, s.Report()) })
	mux.HandleFunc("POST /beat", func(w http.ResponseWriter, _ *http.Request) {
		s.Beat()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// unready says why the app is not announced.
func (s *Sidekick) unready() error {
	if st := s.Status(); !st.Announced {
		return errors.New("not announced: " + st.String())
	}
	return nil
}

// okUnless answers 200, or 503 with what is wrong.
func okUnless(wrong func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := wrong(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the reader may have gone
}

func writeMetrics(w http.ResponseWriter, reports ...Report) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, Metrics(reports...))
}
