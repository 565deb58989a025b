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

// example runs the scripts of a folder, in a copy of it.
func example(t *testing.T, folder string, s store) {
	dir, bin := t.TempDir(), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(proctest.Build(t, "muster/cmd/confd"), filepath.Join(bin, "confd")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	env := append(s.env, "PATH="+bin+":"+os.Getenv("PATH"))
	script := func(name string) {
		t.Helper()
		cmd := exec.Command("sh", name)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	script("keys.sh")
	confd := proctest.Start(t, "confd", env, "sh", "run.sh")
	rendered(t, "10.0.0.1:80")
	script("change.sh")
	rendered(t, "10.0.0.1:80", "10.0.0.2:80")
	s.restart()
	s.put(t)
	rendered(t, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
	confd.Signal(syscall.SIGTERM)
	if code := confd.Wait(); code != 0 {
		t.Errorf("confd ended with %d, want 0", code)
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
