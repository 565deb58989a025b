package confd_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/confd"
	"muster/internal/etcdtest"
)

// patience bounds what must happen; on a busy machine it takes a while.
const patience = time.Minute

// nameServer is the variable that says where scripts look up names.
const nameServer = "TEST_NAME_SERVER"

// Scripts call the commands as a user does: confd, and muster-template for
// "muster template".
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"confd": func() {
			if addr := os.Getenv(nameServer); addr != "" {
				net.DefaultResolver = confd.ResolverAt(addr)
			}
			os.Exit(confd.Main(context.Background(), cli.OS(), "confd", os.Args[1:]))
		},
		"muster-template": func() {
			os.Exit(confd.Template(context.Background(), cli.OS(), os.Args[1:]))
		},
	})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestScripts(t *testing.T) { runScripts(t, "testdata/*.txtar", "") }

// Each flag has a script, over the resource and the data in testdata/flag/files.
func TestFlagScripts(t *testing.T) { runScripts(t, "testdata/flag/*.txtar", "testdata/flag/files") }

// runScripts runs each in a folder that begins with what is in files.
func runScripts(t *testing.T, pattern, files string) {
	scripts, err := filepath.Glob(pattern)
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%s: no scripts: %v", pattern, err)
	}
	for _, script := range scripts {
		c := &commands{t: t, redis: redisCommand{t: t}, zookeeper: zookeeperCommand{t: t}, aws: awsCommand{t: t}, consul: consulCommand{t: t}, vault: vaultCommand{t: t}, rancher: rancherCommand{t: t}}
		testscript.Run(t, testscript.Params{
			Files: []string{script},
			Setup: func(env *testscript.Env) error {
				if files == "" {
					return nil
				}
				return os.CopyFS(env.WorkDir, os.DirFS(files))
			},
			Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
				"etcd": c.etcd, "redis": c.redis.run, "zookeeper": c.zookeeper.run, "aws": c.aws.run, "consul": c.consul.run, "vault": c.vault.run, "rancher": c.rancher.run, "dns": c.dns, "waitfor": c.waitFor, "mode": c.mode, "stages": c.stages, "env2file": c.env2file,
			},
		})
	}
}

// The commands are those of one script, beside testscript's own.
type commands struct {
	t      *testing.T
	server *etcdtest.Server  // once the script asks for it
	names  *confd.NameServer // likewise
	redis  redisCommand

	zookeeper zookeeperCommand
	aws       awsCommand
	consul    consulCommand
	vault     vaultCommand
	rancher   rancherCommand
}

// etcd start [tls|mtls|auth] runs one, at $ETCD, with its files at $CA, $CERT
// and $KEY; etcd kill, restart; etcd put KEY VALUE, etcd del KEY.
func (c *commands) etcd(ts *testscript.TestScript, _ bool, args []string) {
	if args[0] != "start" {
		ts.Check(control(c.server, args))
		return
	}
	var options []etcdtest.Option
	for _, kind := range args[1:] {
		certs := etcdtest.NewCerts(c.t)
		ts.Setenv("CA", certs.CA)
		ts.Setenv("CERT", certs.Cert)
		ts.Setenv("KEY", certs.Key)
		switch kind {
		case "tls":
			options = append(options, etcdtest.TLS(certs))
		case "mtls":
			options = append(options, etcdtest.MutualTLS(certs))
		case "auth":
			options = append(options, etcdtest.Auth("reader", "pass-word", "/"))
		}
	}
	c.server = etcdtest.Start(c.t, options...)
	ts.Setenv("ETCD", c.server.Addr())
}

// dns start runs a name server and makes confd ask it; dns set NAME ADDR...
// makes the addresses the answer.
func (c *commands) dns(ts *testscript.TestScript, _ bool, args []string) {
	if args[0] == "start" {
		c.names = confd.StartNameServer(c.t)
		ts.Setenv(nameServer, c.names.Addr())
		return
	}
	c.names.Set(c.t, args[1], args[2:]...)
}

// waitfor FILE LINE waits until the file has the line.
func (c *commands) waitFor(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(waitFor(ts.MkAbs(args[0]), args[1]))
}

// mode FILE OCTAL
func (c *commands) mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// stages COUNT says how many stage files lie here.
func (c *commands) stages(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(ts.MkAbs(".out*"))
	ts.Check(err)
	if fmt.Sprint(len(names)) != args[0] {
		ts.Fatalf("stage files: %q, want %s", names, args[0])
	}
}

// env2file FILE puts variables in for $NAME.
func (c *commands) env2file(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

func control(server *etcdtest.Server, args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch args[0] {
	case "kill":
		server.Kill()
	case "restart":
		server.Restart()
	case "put": // a connection to the one before a restart may still have to break
		for err = errors.New("none yet"); err != nil && ctx.Err() == nil; {
			_, err = server.Client().Put(ctx, args[1], strings.Join(args[2:], " "))
		}
	case "del":
		_, err = server.Client().Delete(ctx, args[1])
	default:
		err = fmt.Errorf("etcd %s: unknown", args[0])
	}
	return err
}

// waitFor looks every 10 ms: a file has no other way to say that it changed
// which doesn't depend on what is tested.
func waitFor(path, want string) error {
	deadline := time.Now().Add(patience)
	var text []byte
	for time.Now().Before(deadline) {
		var err error
		text, err = os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if strings.TrimSuffix(line, "\n") == want {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s has no line %q after %v, but:\n%s", path, want, patience, text)
}
