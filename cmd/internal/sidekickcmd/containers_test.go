package sidekickcmd_test

import (
	"strings"
	"testing"

	"muster/cmd/internal/cli"
	"muster/cmd/internal/sidekickcmd"
)

func TestDockerUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a name":                {[]string{"web", "-docker"}, cli.Usage, `"web": want no NAME beside -docker`},
		"an address":            {[]string{"-docker", "-addr", "h:1"}, cli.Usage, "-addr: want it without -docker"},
		"a command":             {[]string{"-docker", "--", "true"}, cli.Usage, "-- CMD: want it without -docker"},
		"files too":             {[]string{"-docker", "-config", "/etc/muster"}, cli.Usage, "-config: want it without -docker"},
		"no engine's address":   {[]string{"-docker", "-docker-host", "ssh://h", "-docker-network", "n"}, cli.Usage, `docker host "ssh://h": want unix:///PATH`},
		"a network alone":       {[]string{"web", "-addr", "h:1", "-docker-network", "n"}, cli.Usage, "-docker-network: want -docker too"},
		"no address of its own": {[]string{"-docker", "-store", "etcd://127.0.0.1:1"}, cli.Failed, "at which address others reach this machine"},
		"another store":         {[]string{"-docker", "-store", "redis://h"}, cli.Usage, "it takes etcd only"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs strings.Builder
			std := cli.Std{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
			if code := sidekickcmd.Main(t.Context(), std, tt.args); code != tt.code || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("muster sidekick %q: got code %d and %q: want %d and %q", tt.args, code, errs.String(), tt.code, tt.want)
			}
		})
	}
	var out, errs strings.Builder
	std := cli.Std{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	if code := sidekickcmd.Unit(t.Context(), std, []string{"-docker"}); code != cli.Usage || !strings.Contains(errs.String(), "docs/docker.md") {
		t.Errorf("muster unit -docker: got code %d and %q", code, errs.String())
	}
}

// The environment of a machine is that of all its sidekicks.
func TestANameGoesBeforeDockerOfTheEnvironment(t *testing.T) {
	var out, errs strings.Builder
	std := cli.Std{Out: &out, Err: &errs, Getenv: func(name string) string {
		return map[string]string{"MUSTER_DOCKER": "true", "MUSTER_DOCKER_NETWORK": "n"}[name]
	}}
	if code := sidekickcmd.Main(t.Context(), std, []string{"web"}); code != cli.Usage || !strings.Contains(errs.String(), "-addr: want HOST:PORT") {
		t.Errorf("got code %d and %q: want what is wrong without -docker", code, errs.String())
	}
}
