package proxy_test

import (
	"encoding/json"
	"io"
	"net/netip"
	"testing"

	"muster/catalog"
	"muster/internal/testserver"
	"muster/proxy"
)

// The log names the client that proxies in front tell of: the last address that
// is not one of theirs. Nobody is believed who is not trusted.
func TestClientBehindTrustedProxies(t *testing.T) {
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	front := prefixes("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")
	for name, row := range map[string]struct {
		trusted   []netip.Prefix
		forwarded proxy.ForwardedStyle
		fields    string
		client    string
	}{
		"nobody is trusted":        {nil, "", "X-Forwarded-For: 192.0.2.7\r\n", "127.0.0.1"},
		"others are trusted":       {prefixes("10.0.0.0/8"), "", "X-Forwarded-For: 192.0.2.7\r\n", "127.0.0.1"},
		"nothing is told":          {front, "", "", "127.0.0.1"},
		"one":                      {front, "", "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"},
		"what a stranger made up":  {front, "", "X-Forwarded-For: 203.0.113.9, 192.0.2.7, 10.0.0.1\r\n", "192.0.2.7"},
		"all trusted":              {front, "", "X-Forwarded-For: 10.0.0.3\r\nX-Forwarded-For: 10.0.0.2,fd00::1\r\n", "10.0.0.3"},
		"mapped":                   {front, "", "X-Forwarded-For: 192.0.2.7, ::ffff:10.0.0.1\r\n", "192.0.2.7"},
		"no address":               {front, "", "X-Forwarded-For: 192.0.2.7, unknown, 10.0.0.1\r\n", "10.0.0.1"},
		"port":                     {front, "", "X-Forwarded-For: 192.0.2.7:1234\r\n", "192.0.2.7"},
		"port of IPv6":             {front, "", "X-Forwarded-For: [2001:db8::1]:1234, [fd00::1]\r\n", "2001:db8::1"},
		"port that is none":        {front, "", "X-Forwarded-For: 192.0.2.7:123456\r\n", "127.0.0.1"},
		"zone":                     {front, "", "X-Forwarded-For: fe80::1%eth0\r\n", "127.0.0.1"},
		"the other style":          {front, "", "Forwarded: for=192.0.2.7\r\n", "127.0.0.1"},
		"RFC 7239":                 {front, "rfc7239", "Forwarded: for=192.0.2.7;proto=https, for=\"[fd00::1]:80\"\r\nX-Forwarded-For: 203.0.113.9\r\n", "192.0.2.7"},
		"RFC 7239 with a stranger": {front, "rfc7239", "Forwarded: for=203.0.113.9, for=_hidden, by=x\r\n", "127.0.0.1"},
		"both":                     {front, "both", "Forwarded: for=203.0.113.9\r\nX-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(lines)
			plan := sole(of(testserver.New(t, "a"))...)
			plan.AccessLog = "json"
			plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0", Trusted: row.trusted, Forwarded: row.forwarded}}
			_, addr := start(t, proxy.Config{AccessLog: log}, plan)
			c := testserver.Dial(t, addr)
			c.Send("GET / HTTP/1.1\r\nHost: x\r\n" + row.fields + "\r\n")
			c.Response(t, "GET")
			var line struct{ Client, Peer string }
			if err := json.Unmarshal([]byte(log.wait(t, 1)), &line); err != nil {
				t.Fatal(err)
			}
			peer := "127.0.0.1"
			if row.client == peer {
				peer = "" // it is named once
			}
			if line.Client != row.client || line.Peer != peer {
				t.Errorf("client %q, peer %q, want %q and %q", line.Client, line.Peer, row.client, peer)
			}
		})
	}
}

// Where segments of dots pass, a route gets what lies below it once they are
// resolved, and the endpoint gets the path as it came.
func TestRoutesByResolvedPath(t *testing.T) {
	public, admin := testserver.New(t, "public"), testserver.New(t, "admin")
	plan := sole(of(public)...)
	plan.Listeners = []proxy.Listener{{Bind: "127.0.0.1:0", Dots: true}}
	plan.Services = append(plan.Services, &proxy.Service{Name: "admin", Endpoints: of(admin)})
	plan.Routes = append(plan.Routes, proxy.Route{Route: catalog.Route{Path: "/admin"}, Service: "admin"})
	_, addr := start(t, proxy.Config{}, plan)
	c := testserver.Dial(t, addr)
	for path, want := range map[string]string{
		"/public/../admin/x": "admin", "/%2e%2E/./admin": "admin", "/x/..;a/%61dmin": "admin", "/admin/../x": "public", "/admin/..": "public", "/admin/.": "admin",
	} {
		c.Send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if body, err := io.ReadAll(c.Response(t, "GET").Body); string(body) != want {
			t.Errorf("%s went to %q (%v), want %s", path, body, err, want)
		}
	}
}
