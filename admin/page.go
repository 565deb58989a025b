package admin

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"strconv"
	"strings"
)

//go:embed page.html page.css page.js icon.svg
var assets embed.FS

// page.js writes the same texts as these functions: what a row says must not
// depend on who wrote it.
var pageTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"blankEndpoint": func() endpointRow { return endpointRow{} },
	"blankService":  func() Service { return Service{Exposed: true} },
	"count":         count,
	"errors":        errorText,
	"hundred":       func(share float64) int { return int(math.Round(100 * share)) },
	"level":         func(n Note) string { return strings.ToLower(n.Level.String()) },
	"ms":            msText,
	"peak":          peak,
	"rate":          rateText,
	"row":           func(e Endpoint, top float64) endpointRow { return endpointRow{e, top} },
	"seconds":       seconds,
	"spark":         spark,
	"uptime":        func(s Status) string { return seconds(s.At.Sub(s.Started).Seconds()) },
}).ParseFS(assets, "page.html"))

// An endpointRow is an Endpoint and the upper edge of its sparkline.
type endpointRow struct {
	Endpoint
	Top float64
}

// page is the status page as it stands. page.js follows the stream from there;
// without it the page loads itself again.
func (a *Admin) page(w http.ResponseWriter, _ *http.Request) {
	v, _ := a.view()
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, v.status); err != nil {
		a.cfg.Log.Error("status page", "err", err)
		http.Error(w, "The page can't be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = out.WriteTo(w)
}

// asset serves one embedded file.
func asset(name, kind string) http.HandlerFunc {
	text, err := assets.ReadFile(name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(text)
	}
}

// count is 12,480.
func count(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// rateText is 0, 4.9 or 12,480.
func rateText(v float64) string {
	if v > 0 && v < 9.95 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return count(uint64(math.Round(v)))
}

// msText is –, 0.42, 9.8 or 1,240.
func msText(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v < 0.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return count(uint64(math.Round(v)))
}

// errorText is 0 or 12 (0.4 %).
func errorText(t Traffic) string {
	if t.Errors == 0 {
		return "0"
	}
	return fmt.Sprintf("%s (%s %%)", count(t.Errors), strconv.FormatFloat(t.ErrorPct, 'f', -1, 64))
}

// seconds is 0.4 s, 12 s, 4 min 05 s, 4 h 11 min or 3 d 04 h.
func seconds(v float64) string {
	n := int(v)
	switch {
	case v < 0:
		return "never"
	case v < 9.95:
		return strconv.FormatFloat(v, 'f', 1, 64) + " s"
	case n < 60:
		return fmt.Sprintf("%d s", n)
	case n < 3600:
		return fmt.Sprintf("%d min %02d s", n/60, n%60)
	case n < 86400:
		return fmt.Sprintf("%d h %02d min", n/3600, n/60%60)
	}
	return fmt.Sprintf("%d d %02d h", n/86400, n/3600%24)
}

// A sparkline is remembered units wide and sparkHeight high; the newest value
// stands at the right edge.
const sparkHeight = 20

// peak is the highest rate of endpoints: they share a scale, so that their
// sparklines compare.
func peak(endpoints []Endpoint) float64 {
	top := 0.0
	for _, e := range endpoints {
		for _, v := range e.History.Rate {
			top = max(top, v)
		}
	}
	return top
}

// spark draws values as a line with an area below it, and a mark at each second
// with errors. The upper edge is top, or where that is 0 the highest value.
func spark(values, errors []float64, top float64) template.HTML {
	if top == 0 {
		for _, v := range values {
			top = max(top, v)
		}
	}
	var line, marks strings.Builder
	for i, v := range values {
		y := float64(sparkHeight)
		if top > 0 {
			y -= (sparkHeight - 2) * min(1, v/top)
		}
		fmt.Fprintf(&line, "L%d %.1f", remembered-len(values)+i, y)
	}
	for i, v := range errors {
		if v > 0 {
			fmt.Fprintf(&marks, "M%d %dv-5", remembered-len(errors)+i, sparkHeight)
		}
	}
	area, stroke := "", ""
	if len(values) > 0 {
		stroke = "M" + line.String()[1:]
		area = fmt.Sprintf("M%d %d%sV%dZ", remembered-len(values), sparkHeight, &line, sparkHeight)
	}
	return template.HTML(fmt.Sprintf(`<svg class="spark" viewBox="0 0 %d %d" preserveAspectRatio="none" aria-hidden="true">`+
		`<path class="area" d="%s"/><path class="line" d="%s"/><path class="marks" d="%s"/></svg>`, remembered-1, sparkHeight, area, stroke, &marks))
}
