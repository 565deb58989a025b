package confd

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"muster/template"
)

// serve is -metrics-addr: how each resource is doing, as metrics, as JSON and as
// a check. An empty addr serves nothing. The JSON has errors, with the output of
// commands in them, and is for loopback addresses only.
func serve(addr string, e *template.Engine, log *slog.Logger) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{e})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { health(w, e) })
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { status(w, e) })
	}
	server := &http.Server{
		Handler: mux, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error(err.Error())
		}
	}()
	log.Info("Serving metrics at " + l.Addr().String())
	return func() { server.Close(); <-done }, nil
}

// health answers 503 while a resource fails.
func health(w http.ResponseWriter, e *template.Engine) {
	if slices.ContainsFunc(e.Status(), func(s template.Status) bool { return s.Err != "" || s.StoreErr != "" }) {
		http.Error(w, "failing", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

func status(w http.ResponseWriter, e *template.Engine) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(struct {
		Resources []template.Status `json:"resources"`
	}{e.Status()})
}

// A collector reads the engine's own counts when it is asked.
type collector struct{ engine *template.Engine }

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("muster_template_"+name, help, []string{"resource", "dest"}, nil)
}

var (
	passes   = describe("passes_total", "How often the resource was processed.")
	failures = describe("failures_total", "How many passes of the resource failed.")
	updates  = describe("updates_total", "How often its file became new.")
	failing  = describe("failing", "1 while the last pass of the resource failed.")
	storeUp  = describe("store_up", "0 while the store can't be read for the resource.")
	updated  = describe("updated_timestamp_seconds", "When its file became new the last time; 0 is never.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{passes, failures, updates, failing, storeUp, updated} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.engine.Status() {
		tell := func(d *prometheus.Desc, kind prometheus.ValueType, value float64) {
			out <- prometheus.MustNewConstMetric(d, kind, value, s.File, s.Dest)
		}
		tell(passes, prometheus.CounterValue, float64(s.Passes))
		tell(failures, prometheus.CounterValue, float64(s.Failures))
		tell(updates, prometheus.CounterValue, float64(s.Updates))
		tell(failing, prometheus.GaugeValue, truth(s.Err != ""))
		tell(storeUp, prometheus.GaugeValue, truth(s.StoreErr == ""))
		when := 0.0
		if !s.Updated.IsZero() {
			when = float64(s.Updated.UnixNano()) / 1e9
		}
		tell(updated, prometheus.GaugeValue, when)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
