package docker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"muster/catalog"
)

// inspected is a running container as the engine tells of it, on the network
// bridge and web, with 8080 published and 9090 exposed.
func inspected(t testing.TB, change func(c *container.InspectResponse)) *container.InspectResponse {
	t.Helper()
	const text = `{
		"Id": "1234", "Name": "/web1",
		"State": {"Status": "running", "Running": true, "StartedAt": "2026-11-24T20:00:00.5Z"},
		"HostConfig": {"NetworkMode": "bridge"},
		"Config": {"ExposedPorts": {"8080/tcp": {}, "9090/tcp": {}, "53/udp": {}}, "Labels": {}, "Env": ["PATH=/bin"]},
		"NetworkSettings": {
			"Ports": {"8080/tcp": [{"HostIp": "::", "HostPort": "32768"}, {"HostIp": "0.0.0.0", "HostPort": "32769"}], "9090/tcp": null, "53/udp": [{"HostIp": "", "HostPort": "53"}]},
			"Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "web": {"IPAddress": "", "GlobalIPv6Address": "fd00::2"}}
		}
	}`
	var c container.InspectResponse
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	return &c
}

func labels(all ...string) func(*container.InspectResponse) {
	return func(c *container.InspectResponse) {
		for _, text := range all {
			name, value, _ := strings.Cut(text, "=")
			c.Config.Labels[name] = value
		}
	}
}

func environ(all ...string) func(*container.InspectResponse) {
	return func(c *container.InspectResponse) { c.Config.Env = append(c.Config.Env, all...) }
}

// brief is what matters of apps.
func brief(apps []App) (texts []string) {
	for _, a := range apps {
		text := fmt.Sprintf("%s/%s %s %s", a.Service, a.ID, a.Addr, a.State)
		add := func(name string, value any, said bool) {
			if said {
				text += fmt.Sprintf(" %s=%v", name, value)
			}
		}
		add("weight", a.Weight, a.Weight != catalog.DefaultWeight)
		add("zone", a.Zone, a.Zone != "")
		add("tags", a.Tags, a.Tags != nil)
		add("labels", a.Labels, a.Labels != nil)
		add("routes", a.Routes, a.Routes != nil)
		add("check", a.Check, a.Check != "")
		add("interval", a.Interval, a.Interval != 0)
		add("timeout", a.Timeout, a.Timeout != 0)
		if h := a.Health; h != nil {
			add("http", h.HTTP, h.HTTP != "")
			add("tcp", h.TCP, h.TCP)
		}
		texts = append(texts, text)
	}
	return texts
}

func TestAnnounced(t *testing.T) {
	started := time.Date(2026, 11, 24, 20, 0, 0, 5e8, time.UTC)
	for _, test := range []struct {
		name   string
		config Config
		change func(*container.InspectResponse)
		want   []string
	}{
		{"no label", Config{}, nil, nil},
		{"a service, at the only published port", Config{}, labels("muster.service=web"), []string{"web/node7:web1:8080 127.0.0.1:32769 up"}},
		{"the machine's address", Config{HostIP: "10.0.0.5"}, labels("muster.service=web"), []string{"web/node7:web1:8080 10.0.0.5:32769 up"}},
		{"the engine's address", Config{Host: "tcp://10.0.0.6:2376"}, labels("muster.service=web"), []string{"web/node7:web1:8080 10.0.0.6:32769 up"}},
		{"its own address", Config{Network: "bridge"}, labels("muster.service=web"), []string{"web/node7:web1:8080 172.17.0.2:8080 up"}},
		{"its own address by label", Config{Network: "bridge"}, labels("muster.service=web", "muster.network=web"), []string{"web/node7:web1:8080 [fd00::2]:8080 up"}},
		{"an address by name", Config{}, func(c *container.InspectResponse) {
			labels("muster.service=web", "muster.port=9090")(c)
			delete(c.NetworkSettings.Networks, "web")
		}, []string{"web/node7:web1:9090 172.17.0.2:9090 up"}},
		{"the machine's network", Config{HostIP: "10.0.0.5"}, func(c *container.InspectResponse) {
			labels("muster.service=web", "muster.port=7070/tcp")(c)
			c.HostConfig.NetworkMode = "host"
		}, []string{"web/node7:web1:7070 10.0.0.5:7070 up"}},
		{"all labels", Config{}, labels(
			"muster.service=web", "muster.id=w1", "muster.route=example.com/api, *.example.org/", "muster.tag=blue green", "muster.weight=50",
			"muster.zone=a", "muster.health=http:/healthz", "muster.interval=5s", "muster.timeout=2s", "muster.label.team=pay",
		), []string{"web/w1 127.0.0.1:32769 up weight=50 zone=a tags=[blue green] labels=map[team:pay] routes=[example.com/api *.example.org/] check=http:/healthz interval=5s timeout=2s http=/healthz"}},
		{"weight 0", Config{}, labels("muster.service=web", "muster.weight=0"), []string{"web/node7:web1:8080 127.0.0.1:32769 up weight=0"}},
		{"a check that balancers can't make", Config{}, labels("muster.service=web", "muster.health=http:/ status=204"), []string{"web/node7:web1:8080 127.0.0.1:32769 up check=http:/ status=204"}},
		{"a check by connecting", Config{}, labels("muster.service=web", "muster.health=tcp:"), []string{"web/node7:web1:8080 127.0.0.1:32769 up check=tcp: tcp=true"}},
		{"two ports", Config{Network: "bridge"}, labels(
			"muster.service=web", "muster.9090.service=api", "muster.tag=blue", "muster.9090.tag=green", "muster.8080.zone=b",
		), []string{"api/node7:web1:9090 172.17.0.2:9090 up tags=[green]", "web/node7:web1:8080 172.17.0.2:8080 up zone=b tags=[blue]"}},
		{"ours go before registrator's", Config{}, func(c *container.InspectResponse) {
			labels("muster.service=web", "SERVICE_NAME=other")(c)
			environ("SERVICE_NAME=third")(c)
		}, []string{"web/node7:web1:8080 127.0.0.1:32769 up"}},
		{"registrator's environment", Config{}, environ(
			"SERVICE_NAME=web", "SERVICE_TAGS=blue, green", "SERVICE_WEIGHT=7", "SERVICE_CHECK_HTTP=/ok", "SERVICE_CHECK_INTERVAL=15s", "SERVICE_REGION=eu",
		), []string{"web/node7:web1:8080 127.0.0.1:32769 up weight=7 tags=[blue green] labels=map[region:eu] check=http:/ok interval=15s http=/ok"}},
		{"registrator's ports", Config{}, environ(
			"SERVICE_8080_NAME=web", "SERVICE_NAME=other", "SERVICE_8080_ID=w1", "SERVICE_9090_TAGS=no", "SERVICE_8080_CHECK_TCP=true",
		), []string{"web/w1 127.0.0.1:32769 up check=tcp: tcp=true"}},
		{"registrator's group", Config{Network: "bridge"}, func(c *container.InspectResponse) {
			environ("SERVICE_NAME=web", "SERVICE_9090_NAME=api")(c)
			c.NetworkSettings.Ports = nil
		}, []string{"web-8080/node7:web1:8080 172.17.0.2:8080 up", "api/node7:web1:9090 172.17.0.2:9090 up"}},
		{"registrator's labels win", Config{}, func(c *container.InspectResponse) {
			labels("SERVICE_NAME=web")(c)
			environ("SERVICE_NAME=other")(c)
		}, []string{"web/node7:web1:8080 127.0.0.1:32769 up"}},
		{"registrator's ignore", Config{}, environ("SERVICE_NAME=web", "SERVICE_8080_IGNORE=1"), nil},
		{"registrator without a port", Config{}, func(c *container.InspectResponse) {
			environ("SERVICE_NAME=worker")(c)
			c.Config.ExposedPorts, c.NetworkSettings.Ports = nil, nil
		}, nil},
		{"paused", Config{}, func(c *container.InspectResponse) { labels("muster.service=web")(c); c.State.Paused = true }, nil},
		{"restarting", Config{}, func(c *container.InspectResponse) { labels("muster.service=web")(c); c.State.Restarting = true }, nil},
		{"exited", Config{}, func(c *container.InspectResponse) { labels("muster.service=web")(c); c.State.Running = false }, nil},
		{"unhealthy", Config{}, func(c *container.InspectResponse) {
			labels("muster.service=web")(c)
			c.State.Health = &container.Health{Status: container.Unhealthy}
		}, nil},
		{"starting", Config{}, func(c *container.InspectResponse) {
			labels("muster.service=web")(c)
			c.State.Health = &container.Health{Status: container.Starting}
		}, []string{"web/node7:web1:8080 127.0.0.1:32769 starting"}},
		{"for other machines", Config{Remote: true, HostIP: "10.0.0.5"}, labels("muster.service=web"), []string{"web/node7:web1:8080 10.0.0.5:32769 up"}},
	} {
		apps, err := origin{test.config.withDefaults(), "node7"}.announced(inspected(t, test.change), time.Time{})
		if diff := cmp.Diff(test.want, brief(apps)); err != nil || diff != "" {
			t.Errorf("%s: %v, -want +got\n%s", test.name, err, diff)
		}
		for _, a := range apps {
			if a.Container != "web1" || a.Host != "node7" || !a.Started.Equal(started) {
				t.Errorf("%s: got %+v: want its name, its machine, and since when", test.name, a)
			}
		}
	}
}

func TestAnnouncedSaysWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		config Config
		change func(*container.InspectResponse)
		want   string
	}{
		{Config{}, labels("muster.servce=web"), `unknown label "muster.servce" (did you mean "muster.service"?)`},
		{Config{}, labels("muster.service=web", "muster.8080.rout=/"), `unknown label "muster.8080.rout" (did you mean "muster.8080.route"?)`},
		{Config{}, labels("muster.service=web", "muster.label.=x"), `unknown label "muster.label."`},
		{Config{}, labels("muster.port=80"), `no label "muster.service" says which service it is`},
		{Config{}, labels("muster.service="), `no label "muster.service" says which service it is`},
		{Config{}, labels("muster.service=a/b"), `service or id "a/b": want 1 to 255 bytes without a slash or a space`},
		{Config{}, labels("muster.service=web", "muster.id=a b"), `service or id "a b"`},
		{Config{}, labels("muster.service=web", "muster.port=web"), `label "muster.port": "web": want a TCP port of the container, 1 to 65535`},
		{Config{}, labels("muster.service=web", "muster.port=53/udp"), `label "muster.port": "53/udp"`},
		{Config{}, labels("muster.service=web", "muster.0.tag=x"), `label "muster.0.tag": "0": want a TCP port`},
		{Config{}, labels("muster.service=web", "muster.70.tag=x"), `label "muster.70.tag": no service is announced at port 70`},
		{Config{}, labels("muster.service=web", "muster.port=8080", "muster.8080.service=api"), `port 8080: labels "muster.service" and "muster.8080.service" give it two services`},
		{Config{}, labels("muster.8080.port=1", "muster.8080.service=x"), `label "muster.8080.port": the port is in its name`},
		{Config{}, labels("muster.service=web", "muster.weight=70000"), `label "muster.weight": "70000": want 0 to 65535`},
		{Config{}, labels("muster.service=web", "muster.8080.weight=x"), `label "muster.8080.weight": "x"`},
		{Config{}, labels("muster.service=web", "muster.route=example.com"), `label "muster.route": route "example.com": want [HOST]/PATH`},
		{Config{}, labels("muster.service=web", "muster.health=exec:rm -rf /"), `label "muster.health": "exec:rm -rf /": want tcp:, http:/PATH`},
		{Config{}, labels("muster.service=web", "muster.health=docker:other"), `label "muster.health"`},
		{Config{}, labels("muster.service=web", "muster.interval=-1s"), `label "muster.interval": "-1s": want a duration above zero`},
		{Config{}, labels("muster.service=web", "muster.port=9090"), `port 9090 is not published, and the container is on bridge, web: name one of them`},
		{Config{Network: "db"}, labels("muster.service=web"), `network "db": it is not there, but on bridge, web`},
		{Config{Remote: true, HostIP: "10.0.0.5"}, labels("muster.service=web", "muster.port=9090"), `port 9090 is not published, so that others can't reach it`},
		{Config{Remote: true}, labels("muster.service=web"), `port 8080 is published on loopback only`},
		{Config{Network: "bridge"}, func(c *container.InspectResponse) {
			labels("muster.service=web")(c)
			c.NetworkSettings.Ports = nil
		}, `it has the ports 8080, 9090: say by label "muster.port" which one it is`},
		{Config{}, func(c *container.InspectResponse) {
			labels("muster.service=web")(c)
			c.NetworkSettings.Ports, c.Config.ExposedPorts = nil, nil
		}, `it exposes no TCP port: say by label "muster.port" which one it is`},
		{Config{}, func(c *container.InspectResponse) {
			labels("muster.service=web", "muster.port=80")(c)
			c.HostConfig.NetworkMode = "container:other"
		}, `it shares the network of another container`},
		{Config{Network: "bridge"}, labels("muster.8080.service=web", "muster.9090.service=web", "muster.id=x"), `two of its ports are web/x: give each its id`},
		{Config{}, environ("SERVICE_NAME=web", "SERVICE_WEIGHT=x"), `SERVICE_WEIGHT: "x": want 0 to 65535`},
		{Config{}, environ("SERVICE_NAME=web", "SERVICE_CHECK_HTTP=ok"), `SERVICE_CHECK_HTTP: "http:ok": want tcp:`},
		{Config{}, func(c *container.InspectResponse) { c.Config = nil }, `the engine says nothing of its configuration`},
	} {
		apps, err := origin{test.config.withDefaults(), "node7"}.announced(inspected(t, test.change), time.Time{})
		if err == nil || !strings.Contains(err.Error(), test.want) || apps != nil {
			t.Errorf("got %v, %v: want %q", apps, err, test.want)
		}
	}
}

func TestDrainsAfterItWasTold(t *testing.T) {
	c := inspected(t, labels("muster.service=web"))
	at := startedAt(c.State)
	for told, want := range map[time.Time]string{
		at.Add(time.Second):  "draining",
		at.Add(-time.Second): "up", // it was started again since
		{}:                   "up",
	} {
		apps, err := origin{Config{}.withDefaults(), "node7"}.announced(c, told)
		if err != nil || len(apps) != 1 || string(apps[0].State) != want {
			t.Errorf("told at %v: got %+v, %v: want %s", told, apps, err, want)
		}
	}
	for _, test := range []struct {
		signal, stop string
		want         bool
	}{
		{"15", "", true},
		{"2", "SIGQUIT", true},
		{"3", "SIGQUIT", true},
		{"3", "QUIT", true},
		{"3", "3", true},
		{"3", "", false},
		{"37", "SIGRTMIN+3", true},
		{"1", "", false},
		{"9", "", false},
		{"", "", false},
		{"99", "SIGNONE", false},
	} {
		if got := ends(test.signal, test.stop); got != test.want {
			t.Errorf("signal %q where docker stop sends %q: got %v", test.signal, test.stop, got)
		}
	}
}

// Of two containers with one ID the one that runs for longer counts.
func TestSortedSaysWhoComesTwice(t *testing.T) {
	app := func(service, id, name string, minute int) App {
		started := time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)
		return App{Service: service, ID: id, Container: name, Announcement: catalog.Announcement{Started: &started}}
	}
	var said []string
	got := sorted([]App{app("b", "1", "c1", 0), app("a", "1", "c2", 2), app("a", "1", "c3", 1), app("a", "1", "c4", 3)},
		func(container string, err error) { said = append(said, container+": "+err.Error()) })
	var names []string
	for _, a := range got {
		names = append(names, a.Container)
	}
	want := []string{`c2: a/1 is announced by container "c3" already`, `c4: a/1 is announced by container "c3" already`}
	if !slices.Equal(names, []string{"c3", "c1"}) || !slices.Equal(said, want) {
		t.Errorf("got %v, said %q", names, said)
	}
}

// Whatever stands in labels and environment: what is announced is fit for the store
// and reads as it was meant.
func FuzzAnnounced(f *testing.F) {
	f.Add("muster.service=web\nmuster.8080.route=example.com/", "")
	f.Add("muster.service=web\nmuster.port=9090\nmuster.label.a=\xff", "")
	f.Add("SERVICE_TAGS=a", "SERVICE_8080_NAME=web\nSERVICE_CHECK_HTTP=/x")
	f.Add("muster.9090.service=\nmuster..=", "SERVICE_=\nSERVICE_1_=\n=")
	f.Fuzz(func(t *testing.T, labelText, env string) {
		o := origin{Config{Network: "bridge"}.withDefaults(), "node7"}
		c := inspected(t, func(c *container.InspectResponse) {
			labels(strings.Split(labelText, "\n")...)(c)
			environ(strings.Split(env, "\n")...)(c)
		})
		apps, err := o.announced(c, time.Time{})
		if err != nil && apps != nil {
			t.Errorf("got %+v and %v", apps, err)
		}
		seen := make(map[string]bool)
		for _, a := range apps {
			key := a.Service + "/" + a.ID
			if err := errOf(catalog.CheckAddr(a.Addr), checkSegment(a.Service), checkSegment(a.ID)); err != nil || seen[key] {
				t.Errorf("%q at %q: %v", key, a.Addr, err)
			}
			seen[key] = true
			back, err := catalog.ParseMetadata(a.Metadata())
			if err != nil || back.Addr != a.Addr || back.Weight != a.Weight || !slices.Equal(back.Routes, a.Routes) {
				t.Errorf("%q: got %+v, %v: want %+v", a.Metadata(), back, err, a.Announcement)
			}
		}
	})
}

func errOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		config Config
		want   string // of the error, empty for none
	}{
		{Config{}, ""},
		{Config{Host: "unix:///run/user/1000/docker.sock"}, ""},
		{Config{Host: "tcp://10.0.0.5:2375", HostIP: "fd00::1"}, ""},
		{Config{Host: "ssh://host"}, `docker host "ssh://host": want unix:///PATH or tcp://HOST:PORT`},
		{Config{Host: "unix://var/run/docker.sock"}, "want unix:///PATH"},
		{Config{Host: "tcp://10.0.0.5"}, "want unix:///PATH or tcp://HOST:PORT"},
		{Config{HostIP: "10.0.0.5:80"}, "without a port"},
		{Config{Certs: "/certs"}, "certificates are for tcp://"},
		{Config{Host: "tcp://10.0.0.5:2376", Certs: "/no/such"}, "/no/such/ca.pem"},
	} {
		err := test.config.Check()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v: want %q", test.config, err, test.want)
		}
	}
}
