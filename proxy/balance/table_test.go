package balance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"muster/catalog"
)

// table returns a table whose services are named as their routes.
func table(t testing.TB, routes ...string) *Table {
	t.Helper()
	var targets []Target
	var services []*Service
	for i, text := range routes {
		r, err := catalog.ParseRoute(text)
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, Target{r, i})
		services = append(services, &Service{Name: text})
	}
	return NewTable(true, NewRoutes(targets), services)
}

func name(s *Service) string {
	if s == nil {
		return ""
	}
	return s.Name
}

func TestMatch(t *testing.T) {
	tbl := table(t, "/", "/api", "/api/v2", "example.com/", "example.com/api", "*.example.com/", "*.b.example.com/deep", "a.example.com/only", "/~user")
	for _, tt := range []struct{ host, path, want string }{
		{"other.org", "/", "/"},
		{"other.org", "/api", "/api"},
		{"other.org", "/api/", "/api"},
		{"other.org", "/api/users", "/api"},
		{"other.org", "/apix", "/"},
		{"other.org", "/api/v2", "/api/v2"},
		{"other.org", "/api/v2/x/y", "/api/v2"},
		{"other.org", "/api/v22", "/api"},
		{"other.org", "/API", "/"},
		{"", "/api", "/api"},
		{"example.com", "/", "example.com/"},
		{"example.com", "/apix", "example.com/"},
		{"example.com", "/api/v2", "example.com/api"}, // the longest host first
		{"EXAMPLE.com:8080", "/api", "example.com/api"},
		{"example.com.", "/", "example.com/"},
		{"example.com.:80", "/", "example.com/"},
		{"xexample.com", "/", "/"},
		{"www.example.com", "/", "*.example.com/"},
		{"x.y.example.com", "/", "*.example.com/"},
		{"x.b.example.com", "/deep", "*.b.example.com/deep"},
		{"x.b.example.com", "/else", "*.example.com/"}, // its host matches, its path does not
		{"a.example.com", "/only", "a.example.com/only"},
		{"a.example.com", "/", "*.example.com/"},
		{"[::1]:8080", "/api", "/api"},
		{"[::1]", "/", "/"},
		{"x", "/%61pi", "/api"},         // an escaped "a" is an "a"
		{"x", "/api%2Fv2", "/"},         // an escaped slash is no slash
		{"x", "/api/%2e%2E/v2", "/api"}, // and dots are not followed
		{"x", "/%7Euser", "/~user"},
		{"x", "/%7euser/x", "/~user"},
		{"x", "//api", "/"},
		{"x", "/api//v2", "/api"},
		{"x", "/%", "/"},
		{"x", "/%6", "/"},
		{"x", "/%zz/api", "/"},
		{"x", "*", "/"},
		{"x", "", "/"},
	} {
		if got := name(tbl.Match(tt.host, tt.path)); got != tt.want {
			t.Errorf("Match(%q, %q): %q, want %q", tt.host, tt.path, got, tt.want)
		}
	}
}

func TestMatchNone(t *testing.T) {
	tbl := table(t, "example.com/api", "*.org/")
	for _, tt := range [][2]string{{"example.com", "/"}, {"example.com", "/apix"}, {"org", "/"}, {"", "/api"}} {
		if got := tbl.Match(tt[0], tt[1]); got != nil {
			t.Errorf("Match(%q, %q): %q, want none", tt[0], tt[1], got.Name)
		}
	}
	if got := table(t).Match("x", "/"); got != nil {
		t.Errorf("Match without a route: %q", got.Name)
	}
}

// slow is the rule as DESIGN words it: of the routes that match, the longest
// host (exact before "*."), then the longest path.
func slow(routes []string, host, path string) string {
	var matching []catalog.Route
	for _, text := range routes {
		r, _ := catalog.ParseRoute(text)
		suffix, below := strings.CutPrefix(r.Host, "*")
		okHost := r.Host == "" || r.Host == host || below && strings.HasSuffix(host, suffix)
		okPath := r.Path == "/" || path == r.Path || strings.HasPrefix(path, r.Path+"/")
		if okHost && okPath {
			matching = append(matching, r)
		}
	}
	if len(matching) == 0 {
		return ""
	}
	exact := func(r catalog.Route) int {
		if r.Host == host {
			return 1
		}
		return 0
	}
	return slices.MaxFunc(matching, func(a, b catalog.Route) int {
		return cmp.Or(cmp.Compare(exact(a), exact(b)), cmp.Compare(len(a.Host), len(b.Host)), cmp.Compare(len(a.Path), len(b.Path)))
	}).String()
}

func TestMatchIsTheRule(t *testing.T) {
	host := rapid.StringMatching(`([ab]{1,2}\.){0,3}[ab]`)
	path := rapid.StringMatching(`(/[ab]{1,2}){0,4}`)
	rapid.Check(t, func(t *rapid.T) {
		route := rapid.Custom(func(t *rapid.T) string {
			h := rapid.SampledFrom([]string{"", "*.", "="}).Draw(t, "kind")
			if h != "" {
				h = strings.TrimPrefix(h, "=") + host.Draw(t, "host")
			}
			return h + cmp.Or(path.Draw(t, "path"), "/")
		})
		routes := rapid.SliceOfDistinct(route, rapid.ID[string]).Draw(t, "routes")
		var targets []Target
		var services []*Service
		for i, text := range routes {
			r, err := catalog.ParseRoute(text)
			if err != nil {
				t.Fatal(err)
			}
			targets = append(targets, Target{r, i})
			services = append(services, &Service{Name: r.String()})
		}
		tbl := NewTable(true, NewRoutes(targets), services)
		h := host.Draw(t, "host")
		p := path.Draw(t, "path") + rapid.SampledFrom([]string{"", "/"}).Draw(t, "end")
		if got, want := name(tbl.Match(h, p)), slow(routes, h, p); got != want {
			t.Fatalf("Match(%q, %q) of %q: %q, want %q", h, p, routes, got, want)
		}
	})
}

// Whatever a client sends, matching neither fails nor takes an escape for more
// than it is.
func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{{"example.com:80", "/api/x"}, {"[::1]:8", "/%2e%2E%"}, {"a.b.c.example.com", "//"}, {":", "%%%41"}, {"]:", ""}} {
		f.Add(s[0], s[1])
	}
	tbl := table(f, "/api", "example.com/", "*.example.com/a/b")
	f.Fuzz(func(t *testing.T, host, path string) {
		got := name(tbl.Match(host, path))
		if !strings.Contains(path, "%") {
			return
		}
		plain := plainPath(path)
		if strings.Count(plain, "/") != strings.Count(path, "/") {
			t.Errorf("plainPath(%q) = %q: want as many slashes", path, plain)
		}
		if again := name(tbl.Match(host, strings.ReplaceAll(path, "%2F", "%2f"))); again != got {
			t.Errorf("Match(%q, %q) depends on the case of an escape: %q and %q", host, path, got, again)
		}
	})
}

// A path of slashes costs no more than the longest route.
func TestMatchLongPath(t *testing.T) {
	tbl := table(t, "/a/b", "/")
	if got := name(tbl.Match("x", strings.Repeat("/", 1<<20))); got != "/" {
		t.Errorf("Match: %q, want /", got)
	}
	if n := testing.AllocsPerRun(100, func() { tbl.Match("www.example.com:80", "/a/b/c") }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	routes := []string{"/"}
	for i := range 1000 {
		routes = append(routes, fmt.Sprintf("s%d.example.com/", i), fmt.Sprintf("/s%d/api", i))
	}
	tbl := table(b, routes...)
	for _, bb := range []struct{ name, host, path string }{
		{"host", "s500.example.com:8080", "/index.html"},
		{"path", "other.org", "/s500/api/users/1"},
		{"escaped", "other.org", "/s500/api/users%20and%20others/1"},
		{"slashes", "other.org", strings.Repeat("/", 30<<10)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tbl.Match(bb.host, bb.path)
			}
		})
	}
}
