package proxy_test

import (
	"io"
	"testing"

	"muster/catalog"
	"muster/internal/testserver"
	"muster/proxy"
)

// Requests on one connection go each to the service of its host and path; the
// rules themselves are tested with balance.Table.
func TestRoutes(t *testing.T) {
	plan := &proxy.Plan{Ready: true}
	for _, text := range []string{"/", "/api", "example.com/", "*.example.com/api"} {
		r, err := catalog.ParseRoute(text)
		if err != nil {
			t.Fatal(err)
		}
		o := testserver.New(t, text)
		plan.Routes = append(plan.Routes, proxy.Route{Route: r, Service: text})
		plan.Services = append(plan.Services, &proxy.Service{Name: text, Endpoints: of(o)})
	}
	plan.Routes = append(plan.Routes, proxy.Route{Route: catalog.Route{Path: "/gone"}, Service: "not in the plan"})
	p, addr := start(t, proxy.Config{}, plan)
	c := testserver.Dial(t, addr)
	for _, tt := range []struct{ host, target, want string }{
		{"x", "/", "/"},
		{"x", "/api?q", "/api"},
		{"x", "/%61pi/users", "/api"},
		{"x", "/apix", "/"},
		{"x", "/gone", "/"},
		{"EXAMPLE.com:8080", "/api", "example.com/"},
		{"www.example.com", "/api/x", "*.example.com/api"},
		{"www.example.com", "/", "/"},
		{"Example.com:80", "http://example.com/api", "example.com/"},
	} {
		c.Send("GET " + tt.target + " HTTP/1.1\r\nHost: " + tt.host + "\r\n\r\n")
		res := c.Response(t, "GET")
		io.Copy(io.Discard, res.Body)
		if got := res.Header.Get("X-Origin"); got != tt.want {
			t.Errorf("%s%s went to %q, want %q", tt.host, tt.target, got, tt.want)
		}
	}
	for _, s := range p.Status().Services {
		if !s.Exposed {
			t.Errorf("%s is not exposed, and a route leads to it", s.Name)
		}
	}
}
