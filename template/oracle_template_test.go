package template_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"muster/internal/etcdtest"
)

// byElement are recordings whose keys have neighbours: for "muster template"
// every store has keys by whole elements, for confd those of file and env are
// texts that begin alike.
var byElement = []string{"resource/keys-03", "resource/keys-07", "resource/keys-13", "env/names", "env/string-match"}

// TestOracleOfTemplate runs "muster template" as the recordings say that its
// flags can express: the same files, links, modes, owners and exit codes. Its log
// is its own.
func TestOracleOfTemplate(t *testing.T) {
	t.Parallel()
	known := readKnown(t)
	muster := filepath.Join(caseDir(t), "muster")
	if out, err := exec.Command("go", "build", "-o", muster, "muster/cmd/muster").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	server := etcdtest.Start(t)
	shared := &sharedEtcd{addr: server.Addr(), client: server.Client()}
	run := 0
	for _, folder := range []string{"resource", "errors", "etcd", "env"} {
		paths, err := filepath.Glob("testdata/oracle/" + folder + "/*.txtar")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			name := folder + "/" + strings.TrimSuffix(filepath.Base(path), ".txtar")
			reason, differs := known[name]
			if differs && !strings.HasPrefix(reason, "log only: ") || slices.Contains(byElement, name) {
				continue
			}
			c := readCase(t, path)
			if c.needs == "root" && os.Geteuid() != 0 || c.as != nil || !c.forTemplate() {
				continue
			}
			run++
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if wrong := c.run(t, muster, shared); wrong != "" {
					t.Errorf("%s\n%s", c.about, wrong)
				}
			})
		}
	}
	t.Logf("%d recordings", run)
	if run < 200 {
		t.Errorf("%d recordings could be run, want most", run)
	}
}

// forTemplate turns the arguments into those of "muster template", and reports
// whether it could.
func (c *recording) forTemplate() bool {
	if _, ok := c.files["confdir/confd.toml"]; ok {
		return false
	}
	for i, args := range c.runs {
		args, ok := templateArgs(args)
		if !ok {
			return false
		}
		c.runs[i] = args
	}
	delete(c.files, "want.log")
	return true
}

func templateArgs(args []string) (translated []string, ok bool) {
	values := make(map[string]string)
	translated = []string{"template"}
	for i := 0; i < len(args); i++ {
		name := strings.TrimPrefix(args[i], "-")
		switch name {
		case "onetime", "noop", "sync-only":
			translated = append(translated, "-"+name)
			continue
		case "confdir", "prefix", "backend", "file", "node", "config-file":
		default:
			return nil, false
		}
		if i++; i == len(args) || values[name] != "" {
			return nil, false
		}
		values[name] = args[i]
	}
	for _, name := range []string{"confdir", "prefix"} {
		if v, ok := values[name]; ok {
			translated = append(translated, "-"+name, v)
		}
	}
	switch values["backend"] {
	case "file":
		return append(translated, "-store", "file:"+values["file"]), values["file"] != ""
	case "env":
		return append(translated, "-store", "env:"), true
	case "etcd", "etcdv3":
		node := strings.TrimPrefix(values["node"], "http://")
		return append(translated, "-store", "etcd://"+node), node == "$ETCD"
	}
	return nil, false
}
