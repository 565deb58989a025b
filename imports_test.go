// Package muster_test holds the picture of who imports whom as a test, with the
// reason beside each line. docs/architecture.md draws it.
package muster_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A rule keeps packages out of packages. Patterns are those of path.Match, and
// "x/..." is x and what lies below it.
type rule struct {
	packages string   // who
	direct   bool     // only what they import themselves
	never    []string // what
	reason   string
}

var rules = []rule{
	{"muster/backends", false, []string{"muster/...", "*.*/..."}, "every store and reader needs it: standard library only"},
	{"muster/backends/...", false, []string{"muster/catalog", "muster/discovery", "muster/config", "muster/proxy/...", "muster/template", "muster/sidekick"}, "a store knows keys, not services"},
	{"muster/internal/docker", false, []string{"go.etcd.io/...", "muster/discovery", "muster/config", "muster/proxy/...", "muster/template", "muster/sidekick"}, "the store and the sidekick share it"},
	{"muster/catalog", false, []string{"muster/discovery", "muster/config", "muster/proxy/...", "muster/template", "muster/sidekick", "net/http", "*.*/..."}, "it is pure: keys to services, no I/O"},
	{"muster/discovery", false, []string{"muster/config", "muster/proxy/...", "muster/template", "muster/sidekick", "go.etcd.io/..."}, "it follows any store and plans nothing"},
	{"muster/proxy/...", false, []string{"go.etcd.io/...", "google.golang.org/grpc/...", "muster/config", "muster/discovery", "muster/template", "muster/sidekick", "muster/admin"}, "the proxy never learns where endpoints come from"},
	{"muster/template", false, []string{"go.etcd.io/...", "muster/proxy/...", "muster/sidekick", "muster/catalog", "muster/config"}, "templates read keys of any store"},
	{"muster/sidekick", false, []string{"go.etcd.io/...", "muster/proxy/...", "muster/template", "muster/config", "muster/discovery"}, "a sidekick declares the small interface it needs; cmd wires"},
	{"muster/proxy/balance", false, []string{"net/http", "net/http/...", "github.com/valyala/...", "muster/proxy", "muster/proxy/portable"}, "both drivers share it: no sockets, no types of an HTTP library"},
	{"muster/proxy/http1", false, []string{"muster/...", "*.*/...", "net", "net/...", "os", "time"}, "a grammar is functions over bytes: no I/O, no clock, no other library's types"},
	{"muster/proxy/portable", true, []string{"muster/proxy", "muster/catalog", "github.com/valyala/..."}, "a driver imports balance and nothing above it"},
	{"muster/config", false, []string{"go.etcd.io/...", "muster/template", "muster/admin", "muster/discovery"}, "a plan is made of a file, flags and a snapshot"},
	{"muster/admin", true, []string{"muster/catalog", "muster/backends/..."}, "it shows what proxy and discovery say of themselves"},
	{"muster/admin", false, []string{"go.etcd.io/...", "muster/config", "muster/template", "muster/sidekick"}, "it shows what it is given by small interfaces"},
	{"muster/cmd/sidekick", false, []string{"muster/proxy/...", "muster/template", "muster/config", "muster/backends/open", "muster/discovery", "github.com/valyala/...", "github.com/prometheus/client_golang/...", "github.com/aws/..."}, "the announcer stays slim"},
	{"muster/cmd/confd", false, []string{"muster/proxy/...", "muster/sidekick", "muster/discovery", "muster/config"}, "confd renders templates and nothing else"},
}

// unbound are packages that a rule for many does not bind.
var unbound = map[string][]string{
	"muster/backends/...": {"muster/backends/docker", "muster/backends/open"}, // the keys of docker are made of announcements
}

// oneHome names packages that only a few may import.
var oneHome = []struct {
	pkg    string
	by     []string
	reason string
}{
	{"github.com/kelseyhightower/memkv", []string{"muster/template"}, "the store behind the template functions"},
	{"github.com/valyala/fasthttp", []string{"muster/proxy", "muster/cmd/muster", "muster/bench/..."}, "probes, echo and a peer to measure; the request path is ours"},
	{"muster/backends/etcd", []string{"muster/backends/open", "muster/cmd/...", "muster/internal/..."}, "only open, cmd and tests name a store"},
	{"github.com/BurntSushi/toml", []string{"muster/internal/tomlfile", "muster/template", "muster/backends/file", "muster/cmd/internal/confd"}, "files are read where their meaning is known"},
	{"github.com/hashicorp/consul/api", []string{"muster/backends/consul", "muster/internal/consultest"}, "only the store asks Consul"},
	{"github.com/hashicorp/vault/api", []string{"muster/backends/vault", "muster/internal/vaulttest"}, "only the store asks Vault"},
	{"github.com/moby/moby/client", []string{"muster/internal/docker"}, "one reading of containers, for the store and the sidekick"},
	{"github.com/aws/aws-sdk-go-v2/config", []string{"muster/internal/awsstore"}, "one way to region, credentials and endpoint"},
	{"os/signal", []string{"muster/cmd/...", "muster/bench/...", "muster/internal/...", "muster/examples/..."}, "only commands handle signals"},
	{"flag", []string{"muster/cmd/...", "muster/bench/...", "muster/internal/..."}, "only commands read flags"},
}

type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		for _, r := range rules {
			if !match(r.packages, p.ImportPath) || slices.Contains(unbound[r.packages], p.ImportPath) {
				continue
			}
			deps := p.Deps
			if r.direct {
				deps = p.Imports
			}
			for _, dep := range deps {
				if slices.ContainsFunc(r.never, func(pattern string) bool { return match(pattern, dep) }) {
					t.Errorf("%s imports %s: %s", p.ImportPath, dep, r.reason)
				}
			}
		}
		for _, h := range oneHome {
			if slices.Contains(p.Imports, h.pkg) && !slices.ContainsFunc(h.by, func(pattern string) bool { return match(pattern, p.ImportPath) }) {
				t.Errorf("%s imports %s, which is for %s: %s", p.ImportPath, h.pkg, strings.Join(h.by, ", "), h.reason)
			}
		}
	}
}

// TestRulesName breaks when a package is renamed and its rule is forgotten.
func TestRulesName(t *testing.T) {
	all := list(t)
	for _, r := range rules {
		if !slices.ContainsFunc(all, func(p pkg) bool { return match(r.packages, p.ImportPath) }) {
			t.Errorf("no package %s: mend the rule", r.packages)
		}
	}
}

// list asks the go command for our packages, as they are built for linux.
func list(t *testing.T) (all []pkg) {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = filepath.Dir(file)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// match reports whether path is pattern, or below it where pattern ends in
// "/...". "*.*" stands for any host name: a module that is not ours nor Go's.
func match(pattern, path string) bool {
	below := strings.HasSuffix(pattern, "/...")
	pattern = strings.TrimSuffix(pattern, "/...")
	if pattern == "*.*" {
		host, _, _ := strings.Cut(path, "/")
		return strings.Contains(host, ".") && !strings.HasPrefix(path, "golang.org/x/") && !strings.HasPrefix(path, "vendor/")
	}
	return path == pattern || below && strings.HasPrefix(path, pattern+"/")
}
