package admin

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func (a *Admin) metrics() http.Handler {
	return promhttp.HandlerFor(a.cfg.Metrics, promhttp.HandlerOpts{})
}

func (a *Admin) healthz(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

// readyz says whether requests may be sent here. A balancer with fixed
// endpoints and no store is ready from the start.
func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	reason := a.notReady(a.cfg.Balancer.Ready())
	if reason == "" {
		fmt.Fprintln(w, "ready")
		return
	}
	if a.cfg.Store != nil {
		if err := a.cfg.Store.Status().Err; err != "" {
			reason += ": " + err
		}
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintln(w, reason)
}

// notReady is why requests should not be sent here, or "". ready is what the
// balancer says.
func (a *Admin) notReady(ready bool) string {
	switch {
	case a.leaving.Load():
		return "leaving"
	case !ready:
		return "no snapshot of the store yet"
	}
	return ""
}
