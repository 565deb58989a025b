package catalog_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"muster/backends"
	"muster/catalog"
)

func put(kvs ...string) backends.Change {
	c := backends.Change{}
	for i := 0; i < len(kvs); i += 2 {
		c.Put = append(c.Put, backends.KV{Key: kvs[i], Value: kvs[i+1], Created: int64(i + 1), Modified: int64(i + 1)})
	}
	return c
}

func addrs(s *catalog.Snapshot, service string) []string {
	var all []string
	if svc := s.Service(service); svc != nil {
		for _, e := range svc.Endpoints {
			all = append(all, e.ID+"="+e.Addr+" "+string(e.State))
		}
	}
	return all
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: (-want +got)\n%s", what, d)
	}
}

func TestApply(t *testing.T) {
	s := catalog.New("/services").Apply(put(
		"/services/web/a", "10.0.0.1:80",
		"/services/web/b", "10.0.0.2:80",
		"/services.meta/web/b", `{"weight":7,"state":"up","routes":["example.com/"],"addr":"ignored:1"}`,
		"/services/api/x", "http://10.0.0.3:81",
		"/services/web/too/deep", "10.0.0.9:80",
		"/services/leaf", "10.0.0.9:80",
		"/servicesx/web/a", "10.0.0.9:80",
		"/services.other/web/a", "10.0.0.9:80",
		"/services//a", "10.0.0.9:80",
	))
	want(t, "web", addrs(s, "web"), []string{"a=10.0.0.1:80 up", "b=10.0.0.2:80 up"})
	want(t, "api", addrs(s, "api"), []string{"x=10.0.0.3:81 up"})
	want(t, "weights", []int{s.Service("web").Endpoints[0].Weight, s.Service("web").Endpoints[1].Weight}, []int{100, 7})
	var names []string
	for svc := range s.All() {
		names = append(names, svc.Name)
	}
	want(t, "services", names, []string{"api", "web"})
	want(t, "routes", s.Service("web").Routes, []catalog.Claim{{Route: catalog.Route{Host: "example.com", Path: "/"}, Created: 3}})

	next := s.Apply(backends.Change{Revision: 9, Deleted: []string{"/services/web/a", "/services/never/there"}})
	want(t, "after delete", addrs(next, "web"), []string{"b=10.0.0.2:80 up"})
	want(t, "before it", addrs(s, "web"), []string{"a=10.0.0.1:80 up", "b=10.0.0.2:80 up"})
	if next.Service("api") != s.Service("api") {
		t.Error("Apply(delete web/a): api is another pointer, want the same")
	}
	if next.Service("web").Endpoints[0] != s.Service("web").Endpoints[1] {
		t.Error("Apply(delete web/a): web/b is another pointer, want the same")
	}
	if next.Service("never") != nil {
		t.Error("Apply(delete never/there): the service is known, want nil")
	}
}

// A sidekick that leaves deletes the value and says draining in the metadata.
func TestLeaving(t *testing.T) {
	s := catalog.New("/services").Apply(put("/services/web/a", "h:1", "/services.meta/web/a", `{"addr":"h:1","state":"up","routes":["/x"]}`))
	s = s.Apply(backends.Change{Revision: 5, Deleted: []string{"/services/web/a"}, Put: []backends.KV{{Key: "/services.meta/web/a", Value: `{"addr":"h:1","state":"draining"}`}}})
	want(t, "leaving", addrs(s, "web"), []string{"a=h:1 draining"})
	s = s.Apply(backends.Change{Revision: 6, Deleted: []string{"/services.meta/web/a"}})
	svc := s.Service("web")
	if svc == nil || !svc.Gone() || svc.Left() != 6 {
		t.Fatalf("after the last key left: %+v, want a service that is gone since 6", svc)
	}
	s = s.Apply(put("/services/web/b", "h:2"))
	want(t, "back", addrs(s, "web"), []string{"b=h:2 up"})
}

// A claim is as old as the service has made it: replacing its endpoints one after
// the other does not make it younger, giving it up does.
func TestClaimKeepsItsAge(t *testing.T) {
	kv := func(key, value string, created int64) backends.KV {
		return backends.KV{Key: key, Value: value, Created: created, Modified: created}
	}
	claim := func(s *catalog.Snapshot) []catalog.Claim { return s.Service("web").Routes }
	route := catalog.Route{Host: "h", Path: "/"}
	s := catalog.New("/services").Apply(backends.Change{Revision: 5, Put: []backends.KV{kv("/services/web/a", "h:1", 5), kv("/services.meta/web/a", `{"routes":["h/"]}`, 5)}})
	s = s.Apply(backends.Change{Revision: 7, Put: []backends.KV{kv("/services/web/b", "h:2", 7), kv("/services.meta/web/b", `{"routes":["h/"]}`, 7)}})
	s = s.Apply(backends.Change{Revision: 8, Deleted: []string{"/services/web/a", "/services.meta/web/a"}})
	want(t, "after a rolling restart", claim(s), []catalog.Claim{{Route: route, Created: 5}})
	s = s.Apply(backends.Change{Revision: 9, Put: []backends.KV{kv("/services.meta/web/b", `{}`, 7)}})
	s = s.Apply(backends.Change{Revision: 10, Put: []backends.KV{kv("/services.meta/web/b", `{"routes":["h/"]}`, 7)}})
	want(t, "after giving it up", claim(s), []catalog.Claim{{Route: route, Created: 7}})
}

// In a store without revisions an endpoint is as old as the change that brought it.
func TestAgeWithoutRevisions(t *testing.T) {
	s := catalog.New("/services").Apply(backends.Change{Revision: 3, Full: true, Put: []backends.KV{{Key: "/services/web/a", Value: "h:1"}}})
	s = s.Apply(backends.Change{Revision: 4, Put: []backends.KV{{Key: "/services/web/b", Value: "h:2"}, {Key: "/services/web/a", Value: "h:9"}}})
	var ages []int64
	for _, e := range s.Service("web").Endpoints {
		ages = append(ages, e.Created)
	}
	want(t, "ages", ages, []int64{3, 4})
}

func TestStates(t *testing.T) {
	for name, row := range map[string]struct {
		plain, meta string
		want        []string
	}{
		"starting, not announced yet":  {"", `{"addr":"h:1","state":"starting"}`, []string{"a=h:1 starting"}},
		"up, but somebody deleted it":  {"", `{"addr":"h:1","state":"up"}`, nil},
		"draining by metadata":         {"h:1", `{"state":"draining"}`, []string{"a=h:1 draining"}},
		"metadata without an address":  {"", `{"state":"draining"}`, nil},
		"a value that is JSON":         {`{"host":"h","port":"1"}`, "", []string{"a=h:1 up"}},
		"bad metadata, never good":     {"h:1", "{", []string{"a=h:1 up"}},
		"a bad value, never good":      {"nonsense", `{"addr":"h:1","state":"draining"}`, nil},
		"the value rules the address":  {"h:2", `{"addr":"h:1"}`, []string{"a=h:2 up"}},
		"unknown fields are no matter": {"h:1", `{"future":{"x":[1]}}`, []string{"a=h:1 up"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := backends.Change{Full: true}
			if row.plain != "" {
				c.Put = append(c.Put, backends.KV{Key: "/services/web/a", Value: row.plain})
			}
			if row.meta != "" {
				c.Put = append(c.Put, backends.KV{Key: "/services.meta/web/a", Value: row.meta})
			}
			want(t, "web", addrs(catalog.New("/services").Apply(c), "web"), row.want)
		})
	}
}

// A malformed value hurts only itself: it keeps its last good form, and is
// listed until it is good again.
func TestBadKeepsLastGood(t *testing.T) {
	s := catalog.New("/services").Apply(put("/services/web/a", "h:1", "/services/web/b", "h:2", "/services.meta/web/b", `{"weight":5}`))
	s = s.Apply(put("/services/web/a", "{bad", "/services.meta/web/b", `{"weight":"heavy"}`, "/services/web/c", "no-port"))
	want(t, "web", addrs(s, "web"), []string{"a=h:1 up", "b=h:2 up"})
	want(t, "weight of b", s.Service("web").Endpoints[1].Weight, 5)
	var bad []string
	for b := range s.Bad() {
		bad = append(bad, fmt.Sprintf("%s kept=%v: %v", b.Key, b.Kept, b.Err))
	}
	want(t, "bad", bad, []string{
		`/services/web/a kept=true: broken JSON at byte 2: invalid character 'b' looking for beginning of object key string`,
		`/services.meta/web/b kept=true: metadata: "weight": got a string: want a int`,
		`/services/web/c kept=false: address "no-port": want host:port`,
	})

	// Another bad value, and a full change, don't lose the good form.
	s = s.Apply(put("/services/web/a", "{worse"))
	want(t, "worse", addrs(s, "web"), []string{"a=h:1 up", "b=h:2 up"})
	s = s.Apply(put("/services/web/a", "h:7"))
	want(t, "good again", addrs(s, "web"), []string{"a=h:7 up", "b=h:2 up"})
	if n := len(slices.Collect(s.Bad())); n != 2 {
		t.Errorf("bad entries after one is good again: %d, want 2", n)
	}
}

// After a Full Change what did not change is the same pointer.
func TestFullShares(t *testing.T) {
	full := put("/services/web/a", "h:1", "/services.meta/web/a", `{}`, "/services/api/x", "h:2")
	full.Full, full.Revision = true, 10
	s := catalog.New("/services").Apply(full)
	full.Revision = 20
	again := s.Apply(full)
	if again.Service("web") != s.Service("web") || again.Service("api") != s.Service("api") || again.Revision != 20 {
		t.Error("Apply(the same in full): other pointers or revision, want the same services at revision 20")
	}
	full.Put = full.Put[:2]
	less := s.Apply(full)
	if less.Service("web") != s.Service("web") || !less.Service("api").Gone() {
		t.Error("Apply(full without api): want web shared and api gone")
	}
}

// Whatever changes come, in whatever pieces, Apply ends where a Full Change of
// the same keys does, and shares what a change did not touch.
func TestApplyEqualsFull(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := []string{"h:1", "h:2", `{"addr":"h:3"}`, "bad", `{"state":"draining","addr":"h:1"}`, `{"routes":["a/b"]}`}
		key := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"/services/", "/services.meta/"}).Draw(t, "tree") +
				rapid.SampledFrom([]string{"web", "api", "db"}).Draw(t, "name") + "/" + rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")
		})
		state := make(map[string]backends.KV)
		s := catalog.New("/services")
		for rev := int64(1); rev < 30; rev++ {
			c := backends.Change{Revision: rev}
			k := key.Draw(t, "key")
			if rapid.Bool().Draw(t, "delete") {
				delete(state, k)
				c.Deleted = []string{k}
			} else {
				state[k] = backends.KV{Key: k, Value: rapid.SampledFrom(values).Draw(t, "value"), Modified: rev}
				c.Put = []backends.KV{state[k]}
			}
			before := s
			s = s.Apply(c)
			for svc := range before.All() {
				if now := s.Service(svc.Name); now != svc && !strings.Contains(k, "/"+svc.Name+"/") {
					t.Fatalf("change of %s made another %s", k, svc.Name)
				}
			}
			full := backends.Change{Revision: rev, Full: true, Put: slices.Collect(maps.Values(state))}
			rand.Shuffle(len(full.Put), func(i, j int) { full.Put[i], full.Put[j] = full.Put[j], full.Put[i] })
			again := s.Apply(full)
			for svc := range s.All() {
				if again.Service(svc.Name) != svc {
					t.Fatalf("the same in full made another %s", svc.Name)
				}
			}
		}
	})
}

// Keys that can be no endpoint's are told, with what was wanted, until they are
// gone; they make no service, and those of others are none of ours.
func TestStrayKeys(t *testing.T) {
	told := func(s *catalog.Snapshot) (all []string) {
		for b := range s.Bad() {
			all = append(all, b.Key+"="+b.Value+": "+b.Err.Error())
		}
		return all
	}
	s := catalog.New("/services").Apply(put(
		"/services", "top", "/services/", "dir", "/services/leaf", "10.0.0.9:80", "/services/web/", "", "/services/web/too/deep", "10.0.0.9:80",
		"/services//a", "10.0.0.9:80", "/services.meta/leaf", "{}", "/services/web/a", "10.0.0.1:80",
		"/servicesx/web/a", "10.0.0.9:80", "/services.other/leaf", "10.0.0.9:80", "/services.metal/leaf", "x",
	))
	first := []string{
		"/services=top: no endpoint can stand here: want /services/NAME/ID",
		"/services.meta/leaf={}: a name without an ID: want /services.meta/NAME/ID",
		"/services/=dir: a name without an ID: want /services/NAME/ID",
		"/services//a=10.0.0.9:80: an empty name or ID: want /services/NAME/ID",
		"/services/leaf=10.0.0.9:80: a name without an ID: want /services/NAME/ID",
		"/services/web/=: an empty name or ID: want /services/NAME/ID",
		`/services/web/too/deep=10.0.0.9:80: an ID with a slash, "too/deep": want /services/NAME/ID`,
	}
	want(t, "stray", told(s), first)
	want(t, "services", len(slices.Collect(s.All())), 1)

	next := s.Apply(put("/services/web/b", "10.0.0.2:80"))
	want(t, "after a change of others", &next.Stray()[0] == &s.Stray()[0], true)
	next = next.Apply(backends.Change{Put: []backends.KV{{Key: "/services/leaf", Value: "y"}}, Deleted: []string{"/services", "/services/", "/services//a", "/services/web/"}})
	want(t, "changed and deleted", told(next), []string{first[1], "/services/leaf=y: a name without an ID: want /services/NAME/ID", first[6]})
	want(t, "before", told(s), first)
	c := put("/services/web/a", "10.0.0.1:80")
	c.Full = true
	want(t, "after a full change without them", told(next.Apply(c)), []string(nil))

	c = backends.Change{}
	for i := range 3000 {
		c.Put = append(c.Put, backends.KV{Key: fmt.Sprintf("/services/%d", i)})
	}
	want(t, "of very many", len(catalog.New("/services").Apply(c).Stray()), 1000)
}

// Many keys at once, which are shared among the processors, make the same snapshot
// as one after the other.
func TestManyKeysAtOnce(t *testing.T) {
	var all backends.Change
	oneByOne := catalog.New("/services")
	for i := range 6000 {
		key := fmt.Sprintf("/services/s%d/%d", i%90, i)
		value := fmt.Sprintf("h:%d", i) // of the first, port 0 is wrong
		c := backends.Change{Revision: int64(i + 1), Put: []backends.KV{{Key: key, Value: value, Created: int64(i + 1), Modified: int64(i + 1)}}}
		oneByOne = oneByOne.Apply(c)
		all.Put = append(all.Put, c.Put...)
		all.Revision = c.Revision
	}
	atOnce := catalog.New("/services").Apply(all)
	want(t, "entries", slices.Collect(atOnce.Entries()), slices.Collect(oneByOne.Entries()))
	want(t, "services", len(slices.Collect(atOnce.All())), 90)
	want(t, "bad", len(slices.Collect(atOnce.Bad())), 1)
	if next := atOnce.Apply(all); !slices.Equal(slices.Collect(next.All()), slices.Collect(atOnce.All())) {
		t.Error("the same keys once more made other services")
	}
	all.Full, all.Put = true, all.Put[:5400]
	want(t, "entries that a full change leaves", len(slices.Collect(atOnce.Apply(all).Entries())), 5400)
}

func TestParseValue(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.4:8888":                    "10.0.0.4:8888",
		"  host.name:1\n":                  "host.name:1",
		"[2001:db8::1]:80":                 "[2001:db8::1]:80",
		"http://h:8080/":                   "h:8080",
		"http://h":                         "h:80",
		"https://h":                        "https h:443",
		"grpc://[::1]:9":                   "grpc [::1]:9",
		`{"addr":"h:1"}`:                   "h:1",
		`{"Addr":"h:1","Op":0}`:            "h:1",
		`{"host":"h","port":8080}`:         "h:8080",
		`{"IP":"10.1.1.1","Port":"80"}`:    "10.1.1.1:80",
		`{"hostname":"h","PublicPort":81}`: "h:81",
		`{"URL":"http://h:82"}`:            "h:82",
		`{"Address":"h:83"}`:               "h:83",
		`{"serviceEndpoint":{"host":"h","port":84},"status":"ALIVE"}`: "h:84",
		`{"host":"2001:db8::1","port":1}`:                             "[2001:db8::1]:1",

		"":                                     "!empty value",
		"h":                                    "!want host:port",
		"h:0":                                  "!want 1 to 65535",
		"h:65536":                              "!want 1 to 65535",
		"h:+80":                                "!want 1 to 65535",
		":80":                                  "!want a name",
		"a b:80":                               "!want a name",
		"::1:80":                               "!want host:port",
		"ftp://h:1":                            "!unknown scheme",
		"http://u@h:1":                         "!want only a scheme",
		"http://h:1/path":                      "!want only a scheme",
		"{":                                    "!broken JSON",
		"{}":                                   "!no address",
		`{"host":"h"}`:                         "!want host:port",
		`{"port":1}`:                           "!want a name",
		`{"addr":"h:1","weight":-1}`:           "!want 0 to 65535",
		`{"addr":"h:1","state":"asleep"}`:      "!want starting, up or draining",
		`{"addr":"h:1","routes":["no-slash"]}`: "!want [HOST]/PATH",
	} {
		a, err := catalog.ParseValue(text)
		got := strings.TrimSpace(a.Proto + " " + a.Addr)
		if err != nil {
			got = "!" + err.Error()
		}
		if text, isErr := strings.CutPrefix(want, "!"); got != want && !(isErr && err != nil && strings.Contains(err.Error(), text)) {
			t.Errorf("ParseValue(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestParseRoute(t *testing.T) {
	for text, want := range map[string]string{
		"example.com/api":  "example.com/api",
		"Example.COM/":     "example.com/",
		"*.example.com/a/": "*.example.com/a",
		"/":                "/",
		"/admin/":          "/admin",
		"example.com":      "",
		"":                 "",
		"*/":               "",
		"*.":               "",
		"a*b/":             "",
		"example.com:80/":  "",
		"/a//b":            "",
		"/a b":             "",
		"/a?b":             "",
		"/é":               "",
	} {
		got, err := catalog.ParseRoute(text)
		if got.String() != want || (err == nil) != (want != "") {
			t.Errorf("ParseRoute(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestMetadataRoundTrip(t *testing.T) {
	a := catalog.Announcement{
		V: 1, Addr: "h:1", Weight: 0, Zone: "a", Tags: []string{"x"}, Labels: map[string]string{"k": "v"},
		Routes: []string{"example.com/"}, Health: &catalog.Health{HTTP: "/healthz", Interval: catalog.Duration(2e9)}, State: catalog.Draining, Host: "node",
	}
	got, err := catalog.ParseMetadata(a.Metadata())
	if err != nil {
		t.Fatal(err)
	}
	want(t, "round trip of "+a.Metadata(), got, a)
}

func FuzzParseValue(f *testing.F) {
	for _, text := range []string{"h:1", "http://h", `{"host":"h","port":1}`, "{", "[::1]:80", `{"addr":"h:1","health":{"interval":"-1s"}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := catalog.ParseValue(text)
		if err != nil {
			return
		}
		if err := catalog.CheckAddr(a.Addr); err != nil {
			t.Errorf("ParseValue(%q) accepted %q: %v", text, a.Addr, err)
		}
		if _, err := catalog.ParseMetadata(a.Metadata()); err != nil {
			t.Errorf("ParseValue(%q): its metadata can't be read: %v", text, err)
		}
	})
}

func BenchmarkApplyOneOf100000(b *testing.B) {
	full := backends.Change{Full: true}
	for i := range 100_000 {
		full.Put = append(full.Put, backends.KV{Key: fmt.Sprintf("/services/s%03d/%05d", i%1000, i), Value: fmt.Sprintf("10.0.%d.%d:80", i/250%250, i%250)})
	}
	s := catalog.New("/services").Apply(full)
	b.ReportAllocs()
	for i := range b.N {
		s = s.Apply(put(full.Put[i%100_000].Key, fmt.Sprintf("10.1.0.1:%d", 1+i%1000)))
	}
}

func ExampleSnapshot_Apply() {
	s := catalog.New("/services").Apply(backends.Change{Full: true, Put: []backends.KV{
		{Key: "/services/web/a", Value: "10.0.0.5:8080"},
		{Key: "/services.meta/web/a", Value: `{"zone":"east","routes":["example.com/"]}`},
	}})
	for svc := range s.All() {
		for _, e := range svc.Endpoints {
			fmt.Println(svc.Name, e.Addr, e.Zone, svc.Routes[0])
		}
	}
	// Output: web 10.0.0.5:8080 east example.com/
}

// A service that only has metadata left, or a value that was never good, has no
// endpoint; it keeps the routes it had, so that its requests get 503 and not 404.
func TestServiceWithoutEndpointsKeepsItsRoutes(t *testing.T) {
	meta := backends.KV{Key: "/services.meta/web/1", Value: `{"routes":["web.test/"]}`}
	s := catalog.New(catalog.DefaultPrefix).Apply(backends.Change{Put: []backends.KV{{Key: "/services/web/1", Value: "h:1"}, meta}})
	s = s.Apply(backends.Change{Deleted: []string{"/services/web/1"}})
	svc := s.Service("web")
	if len(svc.Endpoints) != 0 || svc.Gone() || len(svc.Routes) != 1 || svc.Routes[0].String() != "web.test/" {
		t.Errorf("%d endpoints, gone %v, routes %v; want 0, false, web.test/", len(svc.Endpoints), svc.Gone(), svc.Routes)
	}
}

// What all endpoints of a service say is in memory once.
func TestEndpointsShareTexts(t *testing.T) {
	var c backends.Change
	for _, id := range []string{"1", "2", "3"} {
		c.Put = append(c.Put, backends.KV{Key: "/services/web/" + id, Value: "h" + id + ":1"},
			backends.KV{Key: "/services.meta/web/" + id, Value: `{"routes":["web.test/"],"tags":["blue"],"health":{"tcp":true}}`})
	}
	es := catalog.New(catalog.DefaultPrefix).Apply(c).Service("web").Endpoints
	for _, e := range es[1:] {
		if &e.Routes[0] != &es[0].Routes[0] || &e.Tags[0] != &es[0].Tags[0] || e.Health != es[0].Health {
			t.Errorf("%s has texts of its own", e.ID)
		}
		if e.Addr == es[0].Addr {
			t.Errorf("%s has the address of another", e.ID)
		}
	}
}
