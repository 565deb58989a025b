package config_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/backends"
	"muster/catalog"
	"muster/config"
	"muster/proxy"
)

const sample = `
[[listener]]
bind    = "127.0.0.1:8080"
timeout = { header = "11s", body = "31s", idle = "61s" }
limits  = { head = "16KiB" }

[defaults]
timeout = { connect = "2s", response = "20s" }

[log]
access = "off"

[service.web]
endpoints = ["127.0.0.1:9001"]
timeout   = { response = "5s" }
health    = { http = "/healthz", interval = "3s", fall = 4 }
`

func TestParseAndPlan(t *testing.T) {
	file, err := config.Parse("muster.toml", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	plan, problems := config.Plan(file, config.Flags{}, nil)
	endpoint := &catalog.Endpoint{Service: "web", ID: "127.0.0.1:9001", Announcement: catalog.Announcement{Addr: "127.0.0.1:9001", Weight: 100, State: catalog.Up}}
	want := &proxy.Plan{
		Ready: true,
		Listeners: []proxy.Listener{{
			Bind: "127.0.0.1:8080", Source: "muster.toml:2", Limits: proxy.Limits{Head: 16 << 10},
			Timeout: proxy.ListenerTimeout{Header: 11 * time.Second, Body: 31 * time.Second, Idle: 61 * time.Second},
		}},
		AccessLog: "off",
		Sole:      "web",
		Routes:    []proxy.Route{{Route: catalog.Route{Path: "/"}, Service: "web", Source: "only service"}},
		Services: []*proxy.Service{{
			Name: "web", Endpoints: []*catalog.Endpoint{endpoint},
			ServiceSettings: proxy.ServiceSettings{Timeout: proxy.ServiceTimeout{Connect: 2 * time.Second, Response: 5 * time.Second}},
			Health:          &catalog.Health{HTTP: "/healthz", Interval: catalog.Duration(3 * time.Second), Fall: 4},
			Sources:         map[string]string{"timeout.connect": "muster.toml:8", "timeout.response": "muster.toml:15", "health": "muster.toml:16", "endpoints": "muster.toml:14"},
		}},
	}
	if d := cmp.Diff(want, plan); d != "" {
		t.Errorf("Plan: (-want +got)\n%s", d)
	}
	if len(problems) > 0 {
		t.Errorf("problems: %v, want none", problems)
	}
	if plan, _ := config.Plan(file, config.Flags{Listen: []string{":1", ":2"}}, nil); len(plan.Listeners) != 2 || plan.Listeners[1].Bind != ":2" || plan.Listeners[1].Limits.Head != 16<<10 {
		t.Errorf("listeners with -listen: %+v, want :1 and :2 with the file's limits", plan.Listeners)
	}
}

func TestParseErrors(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"unknown key":            {"[[listener]]\nbind = \":80\"\nbnid = 1\n", `muster.toml:3: unknown key "bnid" in [listener] (did you mean "bind"?)`},
		"unknown table":          {"\n[defualts]\n", `muster.toml:2: unknown key "defualts" (did you mean "defaults"?)`},
		"unknown inline key":     {"[service.web]\nendpoints = []\ntimeout = { conect = \"1s\" }\n", `muster.toml:3: unknown key "conect" in [service.web.timeout] (did you mean "connect"?)`},
		"unknown without a hint": {"[log]\n# colour = 1\ncolour = \"red\"\n", `muster.toml:3: unknown key "colour" in [log]`},
		"syntax":                 {"[log]\naccess = off\n", `muster.toml:2: `},
		"duration":               {"[defaults]\ntimeout = { connect = \"1\" }\n", `muster.toml:2: defaults.timeout.connect: "1": want a duration above zero, such as "10s"`},
		"size":                   {"[[listener]]\nbind=\":80\"\nlimits = { head = \"many\" }\n", `muster.toml:3: listener.limits.head: "many": want a size of up to 1GiB, such as "32KiB"`},
		"large size":             {"[[listener]]\nbind=\":80\"\nlimits = { target = \"2GiB\" }\n", `muster.toml:3: listener.limits.target: "2GiB": want a size of up to 1GiB, such as "32KiB"`},
		"size or off":            {"[service.web]\nlimits = { body = \"none\" }\n", `muster.toml:2: service.web.limits.body: "none": want a size such as "8MiB", or off`},
		"size that overflows":    {"[defaults]\nlimits = { body = \"9999999999GiB\" }\n", `muster.toml:2: defaults.limits.body: "9999999999GiB": want a size such as "8MiB", or off`},
		"fields":                 {"[[listener]]\nbind=\":80\"\nlimits.fields = 129\n", `muster.toml:3: listener.limits.fields: "129": want a number from 1 to 128`},
		"rate":                   {"[[listener]]\nbind=\":80\"\nlimits.min_rate = \"240B\"\n", `muster.toml:3: listener.limits.min_rate: "240B": want a rate such as "240B/s", or off`},
		"per_client":             {"[[listener]]\nbind=\":80\"\nlimits.per_client = -1\n", `muster.toml:3: listener.limits.per_client: "-1": want a number above zero, or off`},
		"connections":            {"[[listener]]\nbind=\":80\"\nlimits.connections = \"all\"\n", `muster.toml:3: listener.limits.connections: "all": want a number above zero, or off`},
		"max_conns":              {"[defaults]\nmax_conns = 1.5\n", `muster.toml:2: defaults.max_conns: `},
		"queue":                  {"[service.web]\nqueue = 100\n", `muster.toml:2: service.web.queue: `},
		"queue that is unknown":  {"[service.web]\nqueue = { sise = 100 }\n", `muster.toml:2: unknown key "sise" in [service.web.queue] (did you mean "size"?)`},
		"queue and no limit":     {"[service.web]\nqueue.size = 100\n", `muster.toml:1: [service.web]: queue without max_conns: nothing would wait in it`},
		"trusted":                {"[[listener]]\nbind=\":80\"\ntrusted = [\"10.0.0.0/8\", \"10.0.0.1/8\"]\n", `muster.toml:3: listener.trusted: "10.0.0.1/8": want an address, or a network such as "10.0.0.0/8"`},
		"forwarded":              {"[[listener]]\nbind=\":80\"\nforwarded = \"y\"\n", `muster.toml:3: listener.forwarded: "y": want x, rfc7239 or both`},
		"via":                    {"[[listener]]\nbind=\":80\"\nvia = \"edge 1\"\n", `muster.toml:3: listener.via: "edge 1": want a name of letters, digits and -._~, a host, or off`},
		"dots":                   {"[[listener]]\nbind=\":80\"\npath.dots = true\n", `muster.toml:3: listener.path.dots: "true": want reject or pass`},
		"underscores":            {"[[listener]]\nbind=\":80\"\nheaders.underscores = \"keep\"\n", `muster.toml:3: listener.headers.underscores: "keep": want drop, reject or allow`},
		"drop":                   {"[[listener]]\nbind=\":80\"\n[listener.headers]\ndrop = [\"A\", \"B:\"]\n", `muster.toml:4: listener.headers.drop: "B:": want the name of a field`},
		"drop of ours":           {"[[listener]]\nbind=\":80\"\nheaders.drop = [\"host\"]\n", `muster.toml:3: listener.headers.drop: "host": the proxy writes or removes this field itself: take it off the list`},
		"trace":                  {"[[listener]]\nbind=\":80\"\nmethods.trace = \"yes\"\n", `muster.toml:3: listener.methods.trace: `},
		"proxy_status":           {"[[listener]]\nbind=\":80\"\nproxy_status = \"on\"\n", `muster.toml:3: listener.proxy_status: "on": want errors, always or off`},
		"host":                   {"[service.web]\nhost = \"http://x\"\n", `muster.toml:2: service.web.host: "http://x": want keep, endpoint, or a host such as "app.internal"`},
		"requests":               {"[[listener]]\nbind=\":80\"\nlimits.requests = 0\n", `muster.toml:3: listener.limits.requests: "0": want a number above zero, or off`},
		"access":                 {"[log]\naccess = \"apache\"\n", `muster.toml:2: log.access: "apache": want off, combined or json`},
		"bind":                   {"[[listener]]\nbind = \"80\"\n", `muster.toml:2: listener.bind: "80": want HOST:PORT or :PORT`},
		"no bind":                {"\n[[listener]]\n[listener.limits]\nhead = \"1KiB\"\n", `muster.toml:2: [[listener]] without bind`},
		"endpoint":               {"[service.web]\nendpoints = [\"127.0.0.1\"]\n", `muster.toml:2: service.web.endpoints: address "127.0.0.1": want host:port`},
		"health":                 {"[service.web]\nhealth = { interval = \"1s\" }\n", `muster.toml:1: [service.web]: health: want http = "/PATH" or tcp = true`},
		"wrong type":             {"[[listener]]\nbind = 80\n", `muster.toml:2: listener.bind: "80": want HOST:PORT or :PORT`},
		"not a table":            {"listener = 3\n", `muster.toml:1: listener: `},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("muster.toml", []byte(row.text))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("Parse: %v, want %s", err, row.want)
			}
		})
	}
	if _, err := config.Parse("f", []byte("a = 1\n[log]\nb = 2\n")); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two unknown keys: %v, want both in one error", err)
	}
}

// Every setting of a listener and of a service reaches the plan, with the line
// it stands on.
func TestSettings(t *testing.T) {
	file, err := config.Parse("muster.toml", []byte(`[[listener]]
bind = ":80"
timeout = { header = "1s", body = "2s", idle = "3s", write = "4s", expect = "5s", half_close = "6s" }
limits = { head = "1KiB", target = "2KiB", fields = 3, requests = 4, min_rate = "1KiB/s", connections = 5, per_client = 6 }
trusted = ["10.0.0.0/8", "::1"]
forwarded = "both"
via = "edge1"
path.dots = "pass"
headers = { underscores = "allow", drop = ["X-One"] }
methods.trace = true
proxy_status = "always"

[defaults]
timeout.connect = "7s"
timeout.stream = "9s"
limits = { body = "4GiB", response_head = "6KiB" }
host = "endpoint"
max_conns = 7
queue.timeout = "2s"

[service.web]
host = "inner.test:8080"
queue.size = 8
[service.web.timeout]
response = "8s"
tunnel = "10s"
stream = "11s"

[service.free]
limits.body = "off"
max_conns = "off"
`))
	if err != nil {
		t.Fatal(err)
	}
	plan, _ := config.Plan(file, config.Flags{}, nil)
	listener := proxy.Listener{
		Bind: ":80", Source: "muster.toml:1",
		Timeout:   proxy.ListenerTimeout{Header: 1e9, Body: 2e9, Idle: 3e9, Write: 4e9, Expect: 5e9, HalfClose: 6e9},
		Limits:    proxy.Limits{Head: 1 << 10, Target: 2 << 10, Fields: 3, Requests: 4, MinRate: 1 << 10, Connections: 5, PerClient: 6},
		Trusted:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Forwarded: proxy.ForwardedBoth, Via: "edge1", Dots: true, Underscores: proxy.AllowUnderscores, Drop: []string{"X-One"},
		Trace: true, ProxyStatus: proxy.ProxyStatusAlways,
	}
	defaults := proxy.Service{
		Name: "free",
		ServiceSettings: proxy.ServiceSettings{
			Timeout: proxy.ServiceTimeout{Connect: 7e9, Stream: 9e9}, Limits: proxy.ServiceLimits{Body: -1, ResponseHead: 6 << 10}, Host: proxy.EndpointHost,
			MaxConns: -1, Queue: proxy.Queue{Timeout: 2e9},
		},
		Sources: map[string]string{
			"timeout.connect": "muster.toml:14", "timeout.stream": "muster.toml:15", "limits.body": "muster.toml:30", "limits.response_head": "muster.toml:16", "host": "muster.toml:17", "max_conns": "muster.toml:31", "queue.timeout": "muster.toml:19",
		},
	}
	web := proxy.Service{
		Name: "web",
		ServiceSettings: proxy.ServiceSettings{
			Timeout: proxy.ServiceTimeout{Connect: 7e9, Response: 8e9, Stream: 11e9, Tunnel: 10e9}, Limits: proxy.ServiceLimits{Body: 4 << 30, ResponseHead: 6 << 10}, Host: "inner.test:8080",
			MaxConns: 7, Queue: proxy.Queue{Size: 8, Timeout: 2e9},
		},
		Sources: map[string]string{
			"timeout.connect": "muster.toml:14", "timeout.response": "muster.toml:25", "timeout.tunnel": "muster.toml:26", "timeout.stream": "muster.toml:27",
			"limits.body": "muster.toml:16", "limits.response_head": "muster.toml:16", "host": "muster.toml:22",
			"max_conns": "muster.toml:18", "queue.size": "muster.toml:23", "queue.timeout": "muster.toml:19",
		},
	}
	want := &proxy.Plan{Listeners: []proxy.Listener{listener}, AccessLog: "combined", Services: []*proxy.Service{&defaults, &web}}
	if d := cmp.Diff(want, plan, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("Plan: (-want +got)\n%s", d)
	}
	plan, _ = config.Plan(file, config.Flags{Listen: []string{":81"}}, nil)
	listener.Bind, listener.Source = ":81", "flag -listen"
	if d := cmp.Diff([]proxy.Listener{listener}, plan.Listeners, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("with -listen: (-want +got)\n%s", d)
	}
}

// A step changes the store; the routes after it are as want says, and the
// problems name those who are not exposed or shadowed.
func TestExposure(t *testing.T) {
	type step struct {
		put, del string // service=created[,route], or service
		want     string
		problems string
	}
	for name, row := range map[string]struct {
		flags config.Flags
		steps []step
	}{
		"the only one":                            {config.Flags{}, []step{{put: "web=1", want: "/->web"}}},
		"it keeps that beside a second":           {config.Flags{}, []step{{put: "web=1", want: "/->web"}, {put: "api=2", want: "/->web", problems: "api"}}},
		"a second says so":                        {config.Flags{}, []step{{put: "web=1", want: "/->web"}, {put: "api=2,/api", want: "/->web /api->api"}}},
		"starts with several":                     {config.Flags{}, []step{{put: "web=1 api=2", want: "", problems: "api web"}}},
		"starts with several and a record":        {config.Flags{Sole: "api"}, []step{{put: "web=1 api=2", want: "/->api", problems: "web"}}},
		"a record of somebody who left before":    {config.Flags{Sole: "old", SoleSeen: 1}, []step{{put: "web=2", want: "/->web"}}},
		"it is away at the start, beside another": {config.Flags{Sole: "old", SoleSeen: 2}, []step{{put: "web=2", want: "/->old", problems: "web"}, {put: "old=5", want: "/->old", problems: "web"}}},
		"a record of a store that begins anew":    {config.Flags{Sole: "old", SoleSeen: 9}, []step{{put: "web=2", want: "/->web"}}},
		"it left, another takes the route it had": {config.Flags{}, []step{{put: "a=1,h/ b=2,h/", want: "h/->a", problems: "b"}, {del: "a", want: "h/->b", problems: "a"}}},
		"it restarts beside a second":             {config.Flags{}, []step{{put: "web=1", want: "/->web"}, {put: "api=2", want: "/->web", problems: "api"}, {del: "web", want: "/->web", problems: "api"}, {put: "web=4", want: "/->web", problems: "api"}}},
		"it left and another came":                {config.Flags{}, []step{{put: "web=1", want: "/->web"}, {del: "web", want: "/->web"}, {put: "api=9", want: "/->api"}}},
		"the only one says what it wants":         {config.Flags{}, []step{{put: "web=1,example.com/x", want: "example.com/x->web"}}},
		"of two equal claims the older":           {config.Flags{}, []step{{put: "b=1,h/ a=2,h/", want: "h/->b", problems: "a"}}},
		"announced / does not take it over":       {config.Flags{}, []step{{put: "web=1", want: "/->web"}, {put: "evil=2,/", want: "/->web", problems: "evil"}}},
		"-default":                                {config.Flags{Default: "web"}, []step{{put: "web=1 api=2,/", want: "/->web", problems: "api"}}},
		"-default nobody announced":               {config.Flags{Default: "web"}, []step{{put: "api=2,/api", want: "/->web /api->api", problems: "web"}}},
		"-domain":                                 {config.Flags{Domain: "example.com"}, []step{{put: "web=1 api=2", want: "api.example.com/->api web.example.com/->web"}}},
		"-domain and a name that is no host":      {config.Flags{Domain: "example.com", Default: "x y"}, []step{{put: "web=1", want: "/->x y web.example.com/->web", problems: "x y x y"}}},
		"-domain beats a claim to another host":   {config.Flags{Domain: "d", Default: "web"}, []step{{put: "web=1 evil=2,web.d/", want: "/->web evil.d/->evil web.d/->web", problems: "evil"}}},
		"routes stay known when all have left":    {config.Flags{}, []step{{put: "web=1,h/", want: "h/->web"}, {del: "web", want: "h/->web"}}},
		"a bad entry is no service":               {config.Flags{}, []step{{put: "web=1 bad=2!", want: "/->web"}}},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := catalog.New("/services")
			flags := row.flags
			for i, st := range row.steps {
				c := backends.Change{Revision: int64(i + 3)}
				for word := range strings.FieldsSeq(st.put) {
					service, rest, _ := strings.Cut(word, "=")
					created, route, _ := strings.Cut(rest, ",")
					value := "h:1"
					if created, value = strings.TrimSuffix(created, "!"), "h:1"; strings.HasSuffix(rest, "!") {
						value = "nonsense"
					}
					kv := backends.KV{Key: "/services/" + service + "/1", Value: value, Created: int64(created[0] - '0')}
					c.Put = append(c.Put, kv)
					if route != "" {
						kv.Key, kv.Value = "/services.meta/"+service+"/1", `{"routes":["`+route+`"]}`
						c.Put = append(c.Put, kv)
					}
				}
				if st.del != "" {
					c.Deleted = []string{"/services/" + st.del + "/1", "/services.meta/" + st.del + "/1"}
				}
				snapshot = snapshot.Apply(c)
				plan, problems := config.Plan(nil, flags, snapshot)
				flags.Sole = plan.Sole
				var routes, names []string
				for _, r := range plan.Routes {
					routes = append(routes, r.Route.String()+"->"+r.Service)
				}
				for _, p := range problems {
					names = append(names, p.Service)
				}
				if got := strings.Join(routes, " "); got != st.want {
					t.Errorf("step %d: routes %q, want %q", i, got, st.want)
				}
				if got := strings.Join(names, " "); got != st.problems {
					t.Errorf("step %d: problems %v, want of %q", i, problems, st.problems)
				}
			}
		})
	}
}

func TestNotReadyBeforeFirstSnapshot(t *testing.T) {
	if plan, _ := config.Plan(nil, config.Flags{}, nil); plan.Ready {
		t.Error("Plan without a snapshot is ready, want not")
	}
	if plan, _ := config.Plan(nil, config.Flags{}, catalog.New("")); !plan.Ready {
		t.Error("Plan with an empty snapshot is not ready, want ready")
	}
}

// Endpoints whose protocol the proxy does not speak are in no plan, and told with
// their service, once for all of them.
func TestProtocolsThatAreNotSpoken(t *testing.T) {
	c := backends.Change{}
	for key, value := range map[string]string{
		"web/a": "h:1", "web/b": "https://h:2", "web/c": "http://h:3", "web/d": "grpc://h:4", "web/e": "tcp://h:5", "db/x": "tls://h:6",
	} {
		c.Put = append(c.Put, backends.KV{Key: "/services/" + key, Value: value})
	}
	c.Put = append(c.Put, backends.KV{Key: "/services/web/f", Value: "h:7"}, backends.KV{Key: "/services.meta/web/f", Value: `{"proto":"gopher"}`})
	plan, problems := config.Plan(nil, config.Flags{Default: "web"}, catalog.New(catalog.DefaultPrefix).Apply(c))
	var ids []string
	for _, s := range plan.Services {
		for _, e := range s.Endpoints {
			ids = append(ids, s.Name+" "+e.ID)
		}
	}
	if want := []string{"web a", "web b", "web c"}; !slices.Equal(ids, want) {
		t.Errorf("endpoints in the plan: %q, want %q", ids, want)
	}
	var texts []string
	for _, p := range problems {
		if strings.Contains(p.Text, "protocol") {
			texts = append(texts, p.Service+": "+p.Text)
		}
	}
	want := []string{
		`db: x gets no request: it announces protocol "tls", and this balancer speaks http and https`,
		`web: d and 2 more get no request: they announce protocols such as "grpc", and this balancer speaks http and https`,
	}
	if !slices.Equal(texts, want) {
		t.Errorf("problems: %q, want %q", texts, want)
	}
}
