package sidekick

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// someHost is the machine of the tests.
func someHost(iface, cidr string) (string, error) {
	if iface == "eth9" {
		return "", errors.New("-interface eth9: no address of this machine fits")
	}
	return "10.0.0.5" + iface + cidr, nil
}

func TestLoadReadsEveryTable(t *testing.T) {
	const text = `
# what this machine runs
[[announce]]
name = "web"
addr = "10.0.0.5:8080"

[[announce]]
name         = "api"
id           = "a1"
addr         = ":9090"
prefix       = "/other"
health       = ["tcp:", "http:/healthz"]
docker-host  = "unix:///run/podman.sock"
interval     = "3s"
timeout      = "2s"
rise         = 3
fall         = 4
start-period = "0s"
drain        = "0s"
route        = "example.com/api"
tag          = ["blue", "green"]
weight       = 0
zone         = "b"

  [announce.label]
  k = "v"

[[listener]] # the proxy's
bind = ":80"
`
	defaults := Config{Zone: "a", Host: "node7", Checks: []string{"none"}, Drain: time.Minute}
	apps, err := parseFile("apps.toml", text, defaults, someHost)
	if err != nil {
		t.Fatal(err)
	}
	want := []Config{
		{Source: "apps.toml:3", Service: "web", Addr: "10.0.0.5:8080", Zone: "a", Host: "node7", Checks: []string{"none"}, Drain: time.Minute},
		{
			Source: "apps.toml:7", Service: "api", ID: "a1", Addr: "10.0.0.5:9090", Prefix: "/other", Zone: "b", Host: "node7",
			Checks: []string{"tcp:", "http:/healthz"}, DockerHost: "unix:///run/podman.sock",
			Interval: 3 * time.Second, Timeout: 2 * time.Second, Rise: 3, Fall: 4, StartPeriod: -1, Drain: -1,
			Routes: []string{"example.com/api"}, Tags: []string{"blue", "green"}, Labels: map[string]string{"k": "v"}, Weight: -1,
		},
	}
	if !reflect.DeepEqual(apps, want) {
		t.Errorf("got  %+v\nwant %+v", apps, want)
	}
}

func TestLoadSaysWhatIsWrongAndWhere(t *testing.T) {
	const web = "[[announce]]\nname = \"web\"\naddr = \"10.0.0.5:80\"\n"
	for name, tt := range map[string]struct{ text, want string }{
		"a key":                     {web + "helth = \"tcp:\"", `a.toml:4: unknown key "helth" in [announce] (did you mean "health"?)`},
		"a key of the second":       {web + "\n" + web + "wieght = 3\n" + web, `a.toml:8: unknown key "wieght" in [announce] (did you mean "weight"?)`},
		"a key that is also right":  {web + "rise = 1\n" + web + "rises = 1\n", `a.toml:8: unknown key "rises" in [announce] (did you mean "rise"?)`},
		"a table":                   {strings.Replace(web, "announce", "anounce", 1), `a.toml:1: unknown key "anounce" (did you mean "announce"?)`},
		"one table":                 {strings.NewReplacer("[[", "[", "]]", "]").Replace(web), `a.toml:1: announce: want a table in double brackets`},
		"no TOML":                   {web + "rise = ", `a.toml:4: `},
		"a type":                    {web + web + "rise = \"2\"", `a.toml:7: announce.rise: incompatible types: TOML value has type string`},
		"a list":                    {web + "tag = [1]", `a.toml:4: announce.tag: 1: want a string or a list of strings`},
		"a time of the first":       {web + "interval = \"2\"\n" + web + "interval = \"3s\"", `a.toml:4: announce.interval: "2": want a duration above zero, such as "2s"`},
		"no time":                   {web + "interval = \"0s\"", `a.toml:4: announce.interval: "0s": want a duration above zero`},
		"a negative drain":          {web + "drain = \"-1s\"", `a.toml:4: announce.drain: "-1s": want a duration such as "30s", or "0s"`},
		"no rise":                   {web + "rise = 0", `a.toml:1: [[announce]]: rise, fall: want 1 or more`},
		"a weight":                  {web + "weight = -1", `a.toml:1: [[announce]]: weight -1: want 0 to 65535`},
		"too much weight":           {web + "\n\n" + web + "weight = 70000", `a.toml:6: [[announce]]: weight 70000: want 0 to 65535`},
		"no name":                   {"[[announce]]\naddr = \"10.0.0.5:80\"", `a.toml:1: [[announce]]: name: want that of the service`},
		"no addr":                   {"[[announce]]\nname = \"web\"", `a.toml:1: [[announce]]: addr: want HOST:PORT`},
		"a bad addr":                {strings.Replace(web, "10.0.0.5:80", "::1:80", 1), `a.toml:1: [[announce]]: addr "::1:80": want HOST:PORT, where others reach the app; an IPv6 address stands in brackets, as in [::1]:80`},
		"a check":                   {web + "health = \"ping:x\"", `a.toml:1: [[announce]]: check "ping:x": want tcp:`},
		"a route":                   {web + "route = \"x\"", `a.toml:1: [[announce]]: route "x": want [HOST]/PATH`},
		"two hosts":                 {web + "cidr = \"10.0.0.0/8\"", `a.toml:1: [[announce]]: interface and cidr choose the host of addr = ":PORT": "10.0.0.5:80" has one`},
		"no such host":              {strings.Replace(web, "10.0.0.5", "", 1) + "interface = \"eth9\"", `a.toml:1: [[announce]]: -interface eth9: no address`},
		"an inline array":           {"announce = [{ name = \"web\", addr = \"10.0.0.5:80\", helth = \"tcp:\" }]", `a.toml:1: unknown key "helth" in [announce] (did you mean "health"?)`},
		"several things, all of it": {web + "rise = 0\n" + web + "fall = 0\n", "a.toml:1: [[announce]]: rise, fall: want 1 or more\na.toml:5: [[announce]]: rise, fall: want 1 or more"},
	} {
		t.Run(name, func(t *testing.T) {
			apps, err := parseFile("a.toml", tt.text, Config{}, someHost)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || apps != nil {
				t.Errorf("%s\n got %d apps and %v\nwant %s", tt.text, len(apps), err, tt.want)
			}
		})
	}
}

func TestLoadTakesAFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("b.toml", "[[announce]]\nname = \"b\"\naddr = \"10.0.0.5:2\"\n")
	write("a.toml", "[[announce]]\nname = \"a\"\naddr = \"10.0.0.5:1\"\n")
	write("bad.toml", "[[announce]]\nname = 1\n")
	write("empty.toml", "")
	write(".hidden.toml", "no TOML")
	write("README.md", "no TOML")
	files, err := Load(dir, Config{}, someHost)
	if err != nil || len(files) != 4 {
		t.Fatalf("got %+v, %v: want a, b, bad and empty", files, err)
	}
	for i, want := range []struct {
		name string
		apps int
		bad  bool
	}{{"a.toml", 1, false}, {"b.toml", 1, false}, {"bad.toml", 0, true}, {"empty.toml", 0, false}} {
		if f := files[i]; filepath.Base(f.Name) != want.name || len(f.Apps) != want.apps || (f.Err != nil) != want.bad {
			t.Errorf("got %+v: want %+v", f, want)
		}
	}
	if _, err := Load(filepath.Join(dir, "nothing"), Config{}, someHost); err == nil {
		t.Error("a path where nothing is: got no error")
	}
}

// What the docs show is what can be written.
func TestLoadTakesWhatTheDocsShow(t *testing.T) {
	page, err := os.ReadFile("../docs/sidekick.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```toml\n")
	text, _, _ = strings.Cut(text, "```")
	apps, err := parseFile("docs", text, Config{}, someHost)
	if err != nil || len(apps) != 2 || apps[1].Addr != "10.0.0.5:9090" || apps[1].Labels["team"] != "payments" {
		t.Errorf("got %+v, %v", apps, err)
	}
	keys := reflect.TypeFor[appTable]()
	_, list, _ := strings.Cut(string(page), "The keys are the words of the flags:")
	list, _, _ = strings.Cut(list, "have to be there")
	for i := range keys.NumField() {
		key := keys.Field(i).Tag.Get("toml")
		if key == "" {
			key = strings.ToLower(keys.Field(i).Name)
		}
		if !strings.Contains(list, "`"+key+"`") {
			t.Errorf("the docs don't name the key %s", key)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("[[announce]]\nname = \"web\"\naddr = \":80\"\n[announce.label]\nk = \"v\"\n[[ announce ]]\nname = \"x\"")
	f.Add("announce = [{name = \"web\", addr = \"h:1\"}, {}]")
	f.Add("x = \"\"\"\n[[announce]]\n\"\"\"")
	f.Add("announce = 1")
	f.Fuzz(func(t *testing.T, text string) {
		apps, err := parseFile("f", text, Config{}, someHost)
		if err != nil && (apps != nil || !strings.HasPrefix(err.Error(), "f:")) {
			t.Errorf("got %d apps and %v", len(apps), err)
		}
		for _, c := range apps {
			c.Lease = noLease{}
			if _, err := New(c); err != nil {
				t.Errorf("%+v was read but can't be made: %v", c, err)
			}
		}
	})
}
