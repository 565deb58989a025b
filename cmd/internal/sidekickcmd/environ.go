package sidekickcmd

import (
	"cmp"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A foreign is the environment that others set for a service: CoreOS, Docker's
// clients and registrator. What it says is the default of a flag: a flag wins
// over it, and MUSTER_* does.
type foreign func(string) string

// of is registrator's variable for the port of addr, else for all ports.
func (env foreign) of(addr, what string) string {
	if _, port, err := net.SplitHostPort(addr); err == nil && port != "" {
		if v := env("SERVICE_" + port + "_" + what); v != "" {
			return v
		}
	}
	return env("SERVICE_" + what)
}

// service is the name of the service at addr.
func (env foreign) service(addr string) string { return env.of(addr, "NAME") }

// tags are those of the service at addr.
func (env foreign) tags(addr string) (tags []string) {
	for tag := range strings.SplitSeq(env.of(addr, "TAGS"), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

// host is the address of this machine, and the variable that says so.
func (env foreign) host() (host, variable string) {
	for _, variable := range []string{"HOST_IP", "COREOS_PRIVATE_IPV4"} {
		if host := env(variable); host != "" {
			return host, variable
		}
	}
	return "", ""
}

// dockerHost is where docker's own client finds the engine, if that is a socket.
func (env foreign) dockerHost(otherwise string) string {
	if host := env("DOCKER_HOST"); strings.HasPrefix(host, "unix://") {
		return host
	}
	return otherwise
}

// complete gives what no flag said of the one app.
func (env foreign) complete(f *flags, names []string) []string {
	c := &f.cfg
	if len(names) == 0 {
		if name := env.service(c.Addr); name != "" {
			names = []string{name}
		}
	}
	c.ID = cmp.Or(c.ID, env.of(c.Addr, "ID"))
	if !f.Given("tag") {
		*f.tags = env.tags(c.Addr)
	}
	return names
}

// leaseFile is where the lease is remembered; empty: nowhere. Where the app ends
// with the sidekick there is nothing to take up.
func (env foreign) leaseFile(f *flags) string {
	dir := f.state
	if dir == "" {
		dir, _, _ = strings.Cut(env("RUNTIME_DIRECTORY"), ":")
	}
	if dir == "" && f.cfg.Keep {
		dir, _, _ = strings.Cut(env("STATE_DIRECTORY"), ":")
		switch home := env("XDG_STATE_HOME"); {
		case dir != "":
		case home != "":
			dir = filepath.Join(home, "muster")
		default:
			dir = filepath.Join(env("HOME"), ".local/state/muster")
		}
	}
	if dir == "" || f.cfg.App != nil {
		return ""
	}
	if f.docker {
		return filepath.Join(dir, "docker.lease")
	}
	if f.config != "" {
		return filepath.Join(dir, "config@"+filepath.Base(f.config)+".lease")
	}
	return filepath.Join(dir, f.cfg.Service+"@"+cmp.Or(f.cfg.ID, f.cfg.Addr)+".lease")
}

// appEnviron is the app's environment: the sidekick's own, without what systemd
// says to the sidekick alone, and extra.
func appEnviron(extra ...string) []string {
	mine := []string{"NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID="}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(mine, func(name string) bool { return strings.HasPrefix(v, name) })
	})
	return append(env, extra...)
}
