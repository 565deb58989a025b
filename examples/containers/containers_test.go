//go:build containers

// The fleet of run.sh in a real Docker engine, with real traffic from outside.
package containers_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/internal/dockertest"
	"muster/internal/proctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fleet is what run.sh makes.
type fleet struct {
	*dockertest.Engine
	name string
}

func up(t *testing.T) *fleet {
	engine := dockertest.Start(t)
	// The engine may be one that runs for others too.
	f := &fleet{Engine: engine, name: fmt.Sprintf("muster-test-%d", os.Getpid())}
	t.Cleanup(func() {
		if t.Failed() {
			f.logs(t)
		}
		f.run(t, "down")
	})
	f.run(t, "up")
	return f
}

// run runs run.sh, as a person would.
func (f *fleet) run(t *testing.T, args ...string) {
	t.Helper()
	start := time.Now()
	cmd := exec.Command("./run.sh", args...)
	cmd.Env = append(f.Environ(), "FLEET="+f.name, fmt.Sprintf("SUBNET=10.83.%d", os.Getpid()%256), "BIND="+f.Host, "PORT=", "NGINX_PORT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("run.sh %s: %v\n%s", strings.Join(args, " "), err, out)
		if args[0] != "down" {
			t.FailNow()
		}
	}
	t.Logf("run.sh %s: %v", strings.Join(args, " "), time.Since(start).Round(time.Millisecond))
}

func (f *fleet) logs(t *testing.T) {
	for _, name := range strings.Fields(f.Docker(t, "ps", "-a", "--filter", "network="+f.name, "--format", "{{.Names}}")) {
		t.Logf("--- %s said\n%s", name, f.said(strings.TrimPrefix(name, f.name+"-")))
	}
}

// said is the newest part of a container's output, without the access log.
func (f *fleet) said(name string) string {
	cmd := exec.Command("docker", "logs", f.container(name))
	cmd.Env = f.Environ()
	out, _ := cmd.CombinedOutput() // what it says is shown, errors too
	lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool { return strings.Contains(line, " HTTP/1.1\" 200 ") })
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

func (f *fleet) container(name string) string { return f.name + "-" + name }

// TestContainers is the main job in real containers, with both edges.
func TestContainers(t *testing.T) {
	proctest.Need(t, "nginx")
	f := up(t)
	keys := f.follow(t)
	t.Run("image", f.testImage)
	t.Run("edge", func(t *testing.T) { f.testSteps(t, keys, "edge", 4) })
	// The record of what is exposed is one that a non-root process could keep.
	if said := f.said("edge"); strings.Contains(said, "can't be kept") {
		t.Errorf("the edge said\n%s", said)
	}

	// The same three again.
	f.Docker(t, "rm", "-f", f.container("web4"), f.container("web4-sidekick"))
	for _, name := range []string{"web1", "web2"} {
		f.Docker(t, "start", f.container(name))
		keys.wait(t, name, true)
	}
	f.run(t, "nginx")
	t.Run("nginx", func(t *testing.T) { f.testSteps(t, keys, "nginx", 5) })
}

// testSteps are those that may not be felt outside: a kill, a stop, a new
// container; and then a kill under load, a return, and a stop in order.
func (f *fleet) testSteps(t *testing.T, keys *keys, edge string, next int) {
	fresh := fmt.Sprintf("web%d", next)
	url := "http://" + f.Published(t, f.container(edge), 8080) + "/"
	proctest.Eventually(t, "an answer of "+edge, func() bool { return status(url) == http.StatusOK })
	load := startLoad(t, url, 100)
	load.followed(t, "web1", "web2", "web3")
	load.want(t, edge+" before anything happens", 0)

	load.idle(t, func() { f.Docker(t, "kill", f.container("web1")) })
	load.followed(t, "web2", "web3")
	keys.wait(t, "web1", false)
	load.want(t, edge+", kill of web1 while its connections are idle", 0)

	f.disturb(t, load, url, "stop", "web2")
	load.followed(t, "web3")
	keys.wait(t, "web2", false)
	load.want(t, edge+" after the stop of web2", 0)

	f.run(t, "web", strconv.Itoa(next), "v2")
	load.followed(t, "web3", fresh)
	load.want(t, edge+", start of "+fresh, 0)

	f.disturb(t, load, url, "kill", "web3")
	load.followed(t, fresh)
	keys.wait(t, "web3", false)
	load.want(t, edge+" after the kill of web3", 0)

	f.Docker(t, "start", f.container("web3"))
	load.followed(t, "web3", fresh)
	load.want(t, edge+", web3 started again", 0)

	// In order: its sidekick first.
	load.slow(url)
	f.Docker(t, "stop", f.container(fresh+"-sidekick"))
	keys.wait(t, fresh, false)
	f.Docker(t, "stop", f.container(fresh))
	load.followed(t, "web3")
	load.stop()
	load.want(t, edge+", stop of the sidekick of "+fresh+" and then of "+fresh, 0)
	t.Logf("answers: %v", load.counts())
}

// disturb stops or kills a container under load, with slow requests under way:
// no more than were under way may fail, and none that is sent later.
func (f *fleet) disturb(t *testing.T, load *load, url, command, name string) {
	t.Helper()
	load.slow(url)
	atMost := load.underWay()
	f.Docker(t, command, f.container(name))
	load.pause(true) // what is sent from now on is counted apart
	proctest.Eventually(t, "the last answer", func() bool { return load.underWay() == 0 })
	load.want(t, fmt.Sprintf("docker %s %s with %d requests under way", command, name, atMost), atMost)
	load.pause(false)
}

func status(url string) int {
	resp, err := http.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// testImage looks at the image that the edge and the sidekicks run.
func (f *fleet) testImage(t *testing.T) {
	image := f.name + "/muster"
	if user := f.Docker(t, "inspect", "-f", "{{.Config.User}}", image); user != "65532:65532" {
		t.Errorf("the image's user is %q, want 65532:65532", user)
	}
	if out := f.Docker(t, "run", "--rm", "--entrypoint", "/confd", image, "-version"); !strings.HasPrefix(out, "confd ") {
		t.Errorf("/confd -version says %q, want confd's version", out)
	}
	if out := f.Docker(t, "run", "--rm", image, "version"); !strings.HasPrefix(out, "muster ") {
		t.Errorf("version says %q, want muster's", out)
	}
	// It holds the binary, and a link that counts as many bytes as it has letters.
	binary, err := os.Stat("../../rootfs/muster")
	if err != nil {
		t.Fatal(err)
	}
	size := f.Docker(t, "inspect", "-f", "{{.Size}}", image)
	if want := strconv.FormatInt(binary.Size()+int64(len("muster")), 10); size != want {
		t.Errorf("the image has %s bytes, want %s: the binary once, and a link to it", size, want)
	}
}
