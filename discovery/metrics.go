package discovery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descReady    = prometheus.NewDesc("muster_store_ready", "Whether the store has answered once.", nil, nil)
	descStale    = prometheus.NewDesc("muster_store_stale", "Whether what is known of the store may be out of date.", nil, nil)
	descProof    = prometheus.NewDesc("muster_store_proof_age_seconds", "Time since the store last proved what is known.", nil, nil)
	descRevision = prometheus.NewDesc("muster_store_revision", "The store's revision when it answered last.", nil, nil)
	descErrors   = prometheus.NewDesc("muster_store_errors_total", "Breaks of the connection to the store.", nil, nil)
	descResyncs  = prometheus.NewDesc("muster_store_resyncs_total", "Times the store sent everything again.", nil, nil)
	descChanges  = prometheus.NewDesc("muster_store_changes_total", "Changes of keys that were applied.", nil, nil)
	descServices = prometheus.NewDesc("muster_store_services", "Services known by name.", nil, nil)
	descLoaded   = prometheus.NewDesc("muster_store_loaded_from_disk", "Whether what is known comes from the disk, and the store has not answered yet.", nil, nil)
	descProtect  = prometheus.NewDesc("muster_protect_active", "Whether endpoints are kept whose keys expired, because many did at once.", nil, nil)
	descHeld     = prometheus.NewDesc("muster_protect_held_endpoints", "Endpoints that are kept though their keys expired, while they answer their check.", nil, nil)
	descOff      = prometheus.NewDesc("muster_protect_off", "Whether /muster/protect says off.", nil, nil)
	descBad      = prometheus.NewDesc("muster_store_bad_entries", "Entries of the store that can't be read.", nil, nil)
)

var _ prometheus.Collector = (*Watcher)(nil)

// Describe is part of [prometheus.Collector].
func (w *Watcher) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(w, ch) }

// Collect is part of [prometheus.Collector]: what is known, at the scrape.
func (w *Watcher) Collect(ch chan<- prometheus.Metric) {
	st := w.Status()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(descReady, one(st.Ready))
	gauge(descStale, one(st.Stale))
	if !st.Proof.IsZero() {
		gauge(descProof, time.Since(st.Proof).Seconds())
	}
	gauge(descRevision, float64(st.Revision))
	gauge(descServices, float64(st.Services))
	gauge(descBad, float64(len(st.Bad)))
	gauge(descLoaded, one(st.Origin == FromDisk))
	gauge(descProtect, one(st.Protection.Held > 0))
	gauge(descHeld, float64(st.Protection.Held))
	gauge(descOff, one(st.Protection.Off))
	counter(descErrors, st.Errors)
	counter(descResyncs, st.Resyncs)
	counter(descChanges, st.Changes)
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
