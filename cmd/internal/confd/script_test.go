package confd_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// Scripts call the commands as a user does: confd, and muster-template for
// "muster template".
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"confd": func() {
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

func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		var server *etcdtest.Server // made when a script asks for it
		testscript.Run(t, testscript.Params{
			Files: []string{script},
			Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
				// etcd start: runs one, at $ETCD; etcd kill, restart, stop and cont;
				// etcd put KEY VALUE, etcd del KEY.
				"etcd": func(ts *testscript.TestScript, neg bool, args []string) {
					if args[0] == "start" {
						server = etcdtest.Start(t)
						ts.Setenv("ETCD", server.Addr())
						return
					}
					ts.Check(control(server, args))
				},
				// waitfor FILE TEXT waits until the file is TEXT, or has it as a line.
				"waitfor": func(ts *testscript.TestScript, neg bool, args []string) {
					ts.Check(waitFor(ts.MkAbs(args[0]), args[1]))
				},
				// mode FILE OCTAL
				"mode": func(ts *testscript.TestScript, neg bool, args []string) {
					info, err := os.Stat(ts.MkAbs(args[0]))
					ts.Check(err)
					if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
						ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
					}
				},
			},
		})
	}
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
	case "put":
		_, err = server.Client().Put(ctx, args[1], strings.Join(args[2:], " "))
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
