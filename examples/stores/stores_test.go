package stores_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"muster/internal/awstest"
	"muster/internal/consultest"
	"muster/internal/proctest"
	"muster/internal/ranchertest"
	"muster/internal/redistest"
	"muster/internal/vaulttest"
	"muster/internal/zktest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proctest.Clean()
	os.Exit(code)
}

// A store is a server that an example follows.
type store struct {
	env     []string           // NAME=ADDRESS, as the scripts read it
	put     func(t *testing.T) // one more endpoint, 10.0.0.3:80
	restart func()             // kill -9, and start again
}

func TestConsul(t *testing.T) {
	s := consultest.Start(t, consultest.Config{})
	proctest.Need(t, "curl")
	example(t, "consul", store{
		env:     []string{"CONSUL=" + s.Addr()},
		put:     func(*testing.T) { s.Put("services/web/3", "10.0.0.3:80") },
		restart: func() { s.Kill(); s.Restart() },
	})
}

func TestVault(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Config{})
	s.Mount("secret", "2")
	proctest.Need(t, "curl")
	example(t, "vault", store{
		env:     []string{"VAULT=" + s.Addr(), "VAULT_TOKEN=" + s.Root()},
		put:     func(*testing.T) { s.Put("secret/services/web/3", map[string]any{"value": "10.0.0.3:80"}) },
		restart: func() { s.Kill(); s.Restart() },
	})
}

func TestRedis(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Flags: []string{"--notify-keyspace-events", ""}})
	proctest.Need(t, "redis-cli")
	example(t, "redis", store{
		env:     []string{"REDIS=" + s.Addr()},
		put:     func(*testing.T) { s.Do("SET", "/services/web/3", "10.0.0.3:80") },
		restart: func() { s.Kill(); s.Restart() },
	})
}

func TestZooKeeper(t *testing.T) {
	s := zktest.Start(t)
	example(t, "zookeeper", store{
		env:     []string{"ZOOKEEPER=" + s.Addr()},
		put:     func(*testing.T) { s.Put("/services/web/3", "10.0.0.3:80") },
		restart: func() { s.Kill(); s.Restart() },
	})
}

// What it knows comes from Rancher, so that the scripts write the file that it is
// told to read, and everything is in it at each change.
func TestRancher(t *testing.T) {
	proctest.Need(t, "curl")
	s := ranchertest.Start(t, ranchertest.Config{File: filepath.Join(t.TempDir(), "answers.json")})
	container := func(name, ip string) any { return map[string]any{"name": name, "primary_ip": ip} }
	example(t, "rancher", store{
		env: []string{"RANCHER=" + s.Addr(), "RELOAD=" + s.ReloadAddr(), "ANSWERS=" + s.File()},
		put: func(*testing.T) {
			s.Put("/latest/services", []any{map[string]any{
				"name": "web", "metadata": map[string]any{"timeout": "5s"},
				"containers": []any{container("web-1", "10.0.0.1"), container("web-2", "10.0.0.2"), container("web-3", "10.0.0.3")},
			}})
		},
		restart: func() { s.Stop(); s.Start() },
	})
}

func TestDynamoDB(t *testing.T) {
	proctest.Need(t, "aws")
	d := awstest.StartDynalite(t)
	s := awstest.Start(t, d) // which checks that requests are signed
	example(t, "dynamodb", store{
		env:     awstest.Environ(s, awstest.Default),
		put:     func(*testing.T) { d.Put("/services/web/3", "10.0.0.3:80") },
		restart: func() { s.Stop(); d.Kill(); d.Restart(); s.Start() },
	})
}

func TestSSM(t *testing.T) { ours(t, "ssm", awstest.NewSSM()) }

func TestSecretsManager(t *testing.T) { ours(t, "secretsmanager", awstest.NewSecrets()) }

// ours is the example of a service of AWS that awstest stands in for.
func ours(t *testing.T, folder string, k awstest.Keeper) {
	proctest.Need(t, "aws")
	s := awstest.Start(t, k)
	example(t, folder, store{
		env:     awstest.Environ(s, awstest.Default),
		put:     func(*testing.T) { k.Put("/services/web/3", "10.0.0.3:80") },
		restart: func() { s.Stop(); s.Start() },
	})
}

func TestACM(t *testing.T) {
	proctest.Need(t, "aws")
	proctest.Need(t, "openssl")
	a := awstest.NewACM()
	s := awstest.Start(t, a)
	e := begin(t, "acm", awstest.Environ(s, awstest.Default))
	e.script("keys.sh")
	e.run()
	first := e.until("web.pem", func(text string) bool { return strings.Contains(text, "BEGIN CERTIFICATE") })
	e.script("change.sh")
	second := e.until("web.pem", func(text string) bool { return text != first && strings.Contains(text, "BEGIN CERTIFICATE") })
	s.Stop()
	s.Start()
	e.script("change.sh")
	e.until("web.pem", func(text string) bool { return text != second && strings.Contains(text, "BEGIN CERTIFICATE") })
	e.end()
}

func TestIMDS(t *testing.T) {
	m := awstest.NewIMDS()
	s := awstest.Start(t, m)
	m.Put("/meta-data/instance-id", "i-0abc")
	m.Put("/meta-data/placement/availability-zone", "eu-west-1a")
	m.Put("/meta-data/tags/instance/role", "web")
	e := begin(t, "imds", []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + s.URL()})
	e.run()
	is := func(role string) func(string) bool {
		return func(text string) bool { return text == "id = i-0abc\nzone = eu-west-1a\ntag.role = "+role+"\n" }
	}
	e.until("instance.conf", is("web"))
	m.Put("/meta-data/tags/instance/role", "db")
	e.until("instance.conf", is("db"))
	s.Stop()
	m.Put("/meta-data/tags/instance/role", "spare")
	s.Start()
	e.until("instance.conf", is("spare"))
	e.end()
}

func TestFile(t *testing.T) {
	example(t, "file", store{
		put: func(t *testing.T) {
			text := "services:\n  web: [\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\"]\n"
			if err := os.WriteFile("volume/..v2/services.yaml", []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		restart: func() {}, // there is nobody to restart
	})
}

// example runs the scripts of a folder that renders web.conf.
func example(t *testing.T, folder string, s store) {
	e := begin(t, folder, s.env)
	e.script("keys.sh")
	e.run()
	rendered(t, "10.0.0.1:80")
	e.script("change.sh")
	rendered(t, "10.0.0.1:80", "10.0.0.2:80")
	s.restart()
	s.put(t)
	rendered(t, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
	e.end()
}

// A running is an example that is played, in a copy of its folder.
type running struct {
	t     *testing.T
	env   []string
	confd *proctest.Proc
}

func begin(t *testing.T, folder string, env []string) *running {
	dir, bin := t.TempDir(), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(proctest.Build(t, "muster/cmd/confd"), filepath.Join(bin, "confd")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	return &running{t: t, env: append(env, "PATH="+bin+":"+os.Getenv("PATH"))}
}

func (e *running) script(name string) {
	e.t.Helper()
	cmd := exec.Command("sh", name)
	cmd.Env = append(os.Environ(), e.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (e *running) run() { e.confd = proctest.Start(e.t, "confd", e.env, "sh", "run.sh") }

// until waits until the text of a file is ok, and returns it.
func (e *running) until(file string, ok func(text string) bool) string {
	e.t.Helper()
	var text []byte
	proctest.Eventually(e.t, file+" as wanted", func() bool {
		text, _ = os.ReadFile(file)
		return ok(string(text))
	})
	return string(text)
}

func (e *running) end() {
	e.confd.Signal(syscall.SIGTERM)
	if code := e.confd.Wait(); code != 0 {
		e.t.Errorf("confd ended with %d, want 0", code)
	}
}

// rendered waits until web.conf has exactly these servers, and was reloaded once
// for each: they came one by one.
func rendered(t *testing.T, servers ...string) {
	t.Helper()
	want := "upstream web {\n"
	for _, server := range servers {
		want += "  server " + server + ";\n"
	}
	want += "}\nproxy_read_timeout 5s;\n"
	var got []byte
	defer func() {
		if t.Failed() {
			t.Logf("web.conf is\n%s", got)
		}
	}()
	proctest.Eventually(t, want, func() bool {
		got, _ = os.ReadFile("web.conf")
		return string(got) == want
	})
	proctest.Eventually(t, "a reload each", func() bool {
		reloads, _ := os.ReadFile("reloads")
		return string(reloads) == strings.Repeat("reloaded\n", len(servers))
	})
}
