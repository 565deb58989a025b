package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/template"
	"time"
)

// A Report is every figure of a run.
type Report struct {
	Rounds       int
	Warm, Window time.Duration
	Go, System   string
	Pressure     [2]string // before and after
	Cells        []*Cell   // in the order of workloads and proxies

	workloads []workload
}

// A Cell is one proxy under one workload, round by round.
type Cell struct {
	Workload, Peer string
	CPU            []float64 // µs for each request
	Rate           []float64 // answers a second
	Busy           []float64 // of the proxy's core
	P50, P99, P999 []float64 // µs, at the fixed rate
	Waited         int       // arrivals that found every connection in use
	RSS, PerIdle   []float64 // bytes
}

// A measure is what one proxy did with one workload in one round.
type measure struct {
	Done    int // answers
	Wall    time.Duration
	CPU     time.Duration   // of the proxy, for all of them
	Waited  int             // arrivals that found no free connection
	Took    []time.Duration // sorted; of a fixed rate
	RSS     int             // bytes, at the end
	PerIdle int             // bytes for each idle connection
}

func (m measure) String() string {
	if m.PerIdle != 0 {
		return fmt.Sprintf("%.1f KB for each idle connection", float64(m.PerIdle)/1024)
	}
	return fmt.Sprintf("%.1f µs, %.0f/s, p99 %.0f µs", m.cost(), m.rate(), m.quantile(0.99))
}

func (m measure) cost() float64 { return float64(m.CPU.Microseconds()) / float64(max(m.Done, 1)) }
func (m measure) rate() float64 { return float64(m.Done) / m.Wall.Seconds() }

func (m measure) quantile(q float64) float64 {
	if len(m.Took) == 0 {
		return math.NaN()
	}
	return float64(m.Took[int(q*float64(len(m.Took)-1))].Nanoseconds()) / 1000
}

// tell adds what one round measured.
func (r *Report) tell(w workload, peer string, m measure) {
	c := r.cell(w.name, peer)
	if c == nil {
		c = &Cell{Workload: w.name, Peer: peer}
		r.Cells = append(r.Cells, c)
	}
	c.RSS = append(c.RSS, float64(m.RSS))
	if w.idle {
		c.PerIdle = append(c.PerIdle, float64(m.PerIdle))
		return
	}
	c.CPU, c.Rate = append(c.CPU, m.cost()), append(c.Rate, m.rate())
	c.Busy = append(c.Busy, m.CPU.Seconds()/m.Wall.Seconds())
	c.P50, c.P99, c.P999 = append(c.P50, m.quantile(0.5)), append(c.P99, m.quantile(0.99)), append(c.P999, m.quantile(0.999))
	c.Waited += m.Waited
}

func (r *Report) cell(workload, peer string) *Cell {
	for _, c := range r.Cells {
		if c.Workload == workload && c.Peer == peer {
			return c
		}
	}
	return nil
}

// peers are those of the run, ours first.
func (r *Report) peers() (all []string) {
	for _, name := range []string{"muster", "before", "nginx", "haproxy", "fasthttp", "nethttp", "floor"} {
		if slices.ContainsFunc(r.Cells, func(c *Cell) bool { return c.Peer == name }) {
			all = append(all, name)
		}
	}
	return all
}

// median is NaN of nothing.
func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	switch n := len(s); {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return s[n/2]
	default:
		return (s[n/2-1] + s[n/2]) / 2
	}
}

// best is the better of nginx and HAProxy.
func (r *Report) best(workload string, of func(*Cell) []float64) float64 {
	least := math.NaN()
	for _, peer := range []string{"nginx", "haproxy"} {
		if c := r.cell(workload, peer); c != nil && !(median(of(c)) >= least) {
			least = median(of(c))
		}
	}
	return least
}

// table is the run as Markdown.
func (r *Report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rounds of %v, medians; %s, %s; processors waited for: %s before, %s after.\n", r.Rounds, r.Window, r.Go, r.System, r.Pressure[0], r.Pressure[1])
	section := func(title string, in func(workload) bool, of func(*Cell) []float64, show func(v, best, floor float64) string) {
		var names, rule []string
		var in2 []workload
		for _, w := range r.workloads {
			if in(w) {
				in2, names, rule = append(in2, w), append(names, w.name), append(rule, "---")
			}
		}
		if len(in2) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s\n\n| | %s |\n|---|%s|\n", title, strings.Join(names, " | "), strings.Join(rule, "|"))
		for _, peer := range r.peers() {
			fmt.Fprintf(&b, "| %s |", peer)
			for _, w := range in2 {
				text, floor := "-", math.NaN()
				if c := r.cell(w.name, "floor"); c != nil {
					floor = median(of(c))
				}
				if c := r.cell(w.name, peer); c != nil && len(of(c)) > 0 {
					text = show(median(of(c)), r.best(w.name, of), floor)
				}
				fmt.Fprintf(&b, " %s |", text)
			}
			b.WriteString("\n")
		}
	}
	traffic := func(w workload) bool { return !w.idle }
	open := func(w workload) bool { return w.rate > 0 }
	idle := func(w workload) bool { return w.idle }
	plain := func(format string, unit float64) func(float64, float64, float64) string {
		return func(v, _, _ float64) string { return fmt.Sprintf(format, v/unit) }
	}
	section("µs of the proxy's processor for each request (÷ the better of nginx and HAProxy; ÷ the floor)", traffic,
		func(c *Cell) []float64 { return c.CPU },
		func(v, best, floor float64) string {
			return fmt.Sprintf("%.1f (%s; %s)", v, ratio(v, best), ratio(v, floor))
		})
	section("Answers a second on one core (rate5000: as asked)", traffic, func(c *Cell) []float64 { return c.Rate }, plain("%.0f", 1))
	section("How busy that core was: below 0.95 it was not the proxy that was at its limit", traffic, func(c *Cell) []float64 { return c.Busy }, plain("%.2f", 1))
	section("p50, µs, at a fixed rate", open, func(c *Cell) []float64 { return c.P50 }, plain("%.0f", 1))
	section("p99, µs", open, func(c *Cell) []float64 { return c.P99 }, plain("%.0f", 1))
	section("p99.9, µs", open, func(c *Cell) []float64 { return c.P999 }, plain("%.0f", 1))
	section("Memory after it, MB", func(workload) bool { return true }, func(c *Cell) []float64 { return c.RSS }, plain("%.1f", 1<<20))
	section("KB for each idle connection", idle, func(c *Cell) []float64 { return c.PerIdle }, plain("%.1f", 1<<10))
	return b.String()
}

func ratio(a, b float64) string {
	if math.IsNaN(a / b) {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}

// plot is a picture of the cost of a request: a group of bars for each workload,
// each as long as its ratio to the better of nginx and HAProxy.
func (r *Report) plot() string {
	type bar struct {
		X, Y, W int
		Fill    string
		Name    string
		Value   string
	}
	type group struct {
		Y    int
		Name string
	}
	const unit, height, left = 200, 16, 120 // pixels: a ratio of 1, a bar, the names
	fill := map[string]string{"muster": "#0b7285", "before": "#99d8e0", "nginx": "#868e96", "haproxy": "#adb5bd", "fasthttp": "#ced4da", "nethttp": "#dee2e6", "floor": "#343a40"}
	var data struct {
		Bars          []bar
		Groups        []group
		Width, Height int
		One           int
	}
	y := 30
	for _, w := range r.workloads {
		if w.idle {
			continue
		}
		best := r.best(w.name, func(c *Cell) []float64 { return c.CPU })
		if math.IsNaN(best) {
			continue
		}
		data.Groups = append(data.Groups, group{y + height, w.name})
		for _, peer := range r.peers() {
			c := r.cell(w.name, peer)
			if c == nil || len(c.CPU) == 0 {
				continue
			}
			v := median(c.CPU) / best
			data.Bars = append(data.Bars, bar{left, y, int(min(v, 4) * unit), fill[peer], peer, fmt.Sprintf("%.2f", v)})
			y += height + 2
		}
		y += height
	}
	data.Width, data.Height, data.One = left+4*unit+140, y, left+unit
	var b strings.Builder
	if err := plotSVG.Execute(&b, data); err != nil {
		return err.Error() // it is ours: can't be
	}
	return b.String()
}

var plotSVG = template.Must(template.New("plot").Funcs(template.FuncMap{"add": func(a, b int) int { return a + b }}).Parse(
	`<svg xmlns="http://www.w3.org/2000/svg" width="{{.Width}}" height="{{.Height}}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="{{.One}}" y="16" text-anchor="middle">1.0 = the better of nginx and HAProxy: processor time for each request, less is better</text>
{{range .Groups}}<text x="8" y="{{.Y}}" font-weight="bold">{{.Name}}</text>
{{end}}{{range .Bars}}<rect x="{{.X}}" y="{{.Y}}" width="{{.W}}" height="16" fill="{{.Fill}}"/><text x="{{add (add .X .W) 6}}" y="{{add .Y 12}}">{{.Name}} {{.Value}}</text>
{{end}}<line x1="{{.One}}" x2="{{.One}}" y1="22" y2="{{.Height}}" stroke="#c92a2a" stroke-dasharray="4 3"/>
</svg>
`))
