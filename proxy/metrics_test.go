package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"muster/internal/testserver"
	"muster/proxy"
)

// series are the metrics of p by name and labels, as `name{a="b"}`.
func series(t testing.TB, p *proxy.Proxy) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(p)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			all[f.GetName()+labels(m)] = m.Counter.GetValue() + m.Gauge.GetValue() + float64(m.Histogram.GetSampleCount())
		}
	}
	return all
}

func labels(m *dto.Metric) string {
	var ls []string
	for _, l := range m.Label {
		ls = append(ls, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	if len(ls) == 0 {
		return ""
	}
	slices.Sort(ls)
	return "{" + strings.Join(ls, ",") + "}"
}

func metric(t testing.TB, p *proxy.Proxy, name string) float64 { return series(t, p)[name] }

func TestMetrics(t *testing.T) {
	a := testserver.New(t, "a")
	dead := endpoint("dead", testserver.FreeAddr(t))
	plan := sole(endpoint("a", a.Addr), dead)
	plan.Routes[0].Path = "/app"
	p, addr := start(t, proxy.Config{}, plan)
	c := client(t)
	const n = 20
	for range n {
		get(t, c, "http://"+addr+"/app")
	}
	get(t, c, "http://"+addr+"/else")
	retries := settled(t, p).Services[0].Retries
	got := series(t, p)
	for name, want := range map[string]float64{
		`muster_ready`: 1,
		`muster_requests_total{code="2xx",service="web"}`:                n,
		`muster_requests_total{code="5xx",service="web"}`:                0,
		`muster_errors_total{service="web"}`:                             0,
		`muster_retries_total{service="web"}`:                            float64(retries),
		`muster_in_flight{service="web"}`:                                0,
		`muster_request_duration_seconds{service="web"}`:                 n,
		`muster_upstream_requests_total{endpoint="a",service="web"}`:     n,
		`muster_upstream_requests_total{endpoint="dead",service="web"}`:  float64(retries),
		`muster_upstream_errors_total{endpoint="a",service="web"}`:       0,
		`muster_upstream_errors_total{endpoint="dead",service="web"}`:    float64(retries),
		`muster_upstream_in_flight{endpoint="a",service="web"}`:          0,
		`muster_upstream_state{endpoint="a",service="web",state="up"}`:   1,
		`muster_refused_total{code="404",error="destination_not_found"}`: 1,
		`muster_panics_total`:                                            0,
		`muster_access_log_dropped_total`:                                0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v (there: %v), want %v", name, v, ok, want)
		}
	}
	if retries == 0 {
		t.Error("no retries: the test shows nothing")
	}
}

// Whatever names the store holds, a scrape neither fails nor mixes endpoints up.
func TestMetricsOddNames(t *testing.T) {
	plan := sole(endpoint("a", "10.0.0.1:80"), endpoint("a", "10.0.0.2:80"), endpoint("\xff\n\"", "10.0.0.3:80"))
	p := proxy.New(proxy.Config{})
	p.Update(plan)
	got := series(t, p)
	for _, id := range []string{"a", "a@10.0.0.2:80", "\ufffd\n\""} {
		if name := fmt.Sprintf("muster_upstream_state{endpoint=%q,service=\"web\",state=\"up\"}", id); got[name] != 1 {
			t.Errorf("no %s in %v", name, got)
		}
	}
}
