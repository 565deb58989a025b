package sidekickcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/catalog"
	"muster/cmd/internal/cli"
	"muster/internal/docker"
	"muster/sidekick"
)

const summary = `Announces the service NAME at -addr in etcd while its checks pass, under a lease:
as /services/NAME/ID, with metadata as /services.meta/NAME/ID. On SIGTERM it
withdraws, waits for -drain and ends; on a second one it ends at once.

With -config it announces what the [[announce]] tables of a file say, or of all
.toml files in a folder: several apps under one lease. The keys of a table are
the flags' words (name, addr, health, start-period, …); flags are the defaults of
all tables. SIGHUP reads them again, and touches only what has changed.

With -docker it announces the containers of this machine that ask for it by label,
muster.service=NAME and others, under one lease too: see docs/docker.md. Flags are
the defaults of all.

With -- CMD it runs the app too. Both end together: on SIGTERM the app gets its
own after the drain, and the exit code is the app's (128+n for a signal).

A SPEC is one of these; several have to pass all:
  tcp:                -addr takes a connection
  http:/PATH          a GET there answers 200 to 399; https: takes any certificate.
                      Fields behind the path, in one argument, ask for more:
                      'http:/healthz status=200-299 body=ok host=example.com';
                      'https:/ host=example.com tls=verify' verifies it
  grpc:[SERVICE]      grpc.health.v1 says SERVING
  exec:COMMAND        sh -c COMMAND ends with 0
  heartbeat:10s       the app beats at least that often: POST /beat at -status
  systemd:UNIT        the unit is active
  docker:CONTAINER    it runs and, where it has a HEALTHCHECK, is healthy
  none                always

Defaults are also taken from HOST_IP or COREOS_PRIVATE_IPV4 (the host of -addr :PORT),
SERVICE_NAME, SERVICE_ID, SERVICE_TAGS (or SERVICE_PORT_NAME, …, with the port's number)
and DOCKER_HOST. A flag wins over MUSTER_*, and that over these.`

// flags are the command's flags, and what they say once parsed.
type flags struct {
	*cli.Flags
	log func() *slog.Logger

	config         string // empty: one app, of the flags, or containers
	docker         bool
	network        string        // on which containers are reached; empty: published ports
	engine         docker.Config // of -docker
	store, portEnv string
	status         string // where it is served; empty: nowhere
	iface, cidr    string
	onExit, state  string
	takeOver       bool
	ttl            time.Duration
	weight         int
	cfg            sidekick.Config
	checks         *[]string
	routes         *[]string
	tags           *[]string
	labels         *[]string
}

func newFlags(std cli.Std) *flags {
	f := &flags{Flags: cli.NewFlags("sidekick", "NAME -addr [HOST]:PORT [flags] [-- CMD ARGS...] | -config FILE|DIR [flags] | -docker [flags]", summary)}
	f.Program = cmp.Or(std.Program, f.Program)
	f.define(std)
	return f
}

func (f *flags) define(std cli.Std) {
	c := &f.cfg
	f.StringVar(&f.config, "config", "", "`FILE|DIR` whose [[announce]] tables are announced, instead of NAME at -addr")
	f.BoolVar(&f.docker, "docker", false, "announce the labelled containers of this machine, instead of NAME at -addr")
	f.StringVar(&f.network, "docker-network", "", "`NAME` of the network on which containers of -docker are announced, at their own\naddresses there (default where their ports are published)")
	f.StringVar(&c.Addr, "addr", "", "`HOST:PORT` at which others reach the app; without a HOST, the address of this machine\nthat packets to etcd come from, or what -interface or -cidr say")
	f.StringVar(&f.iface, "interface", "", "`NAME` of the interface whose address is the host of -addr :PORT")
	f.StringVar(&f.cidr, "cidr", "", "`NETWORK` such as 10.0.0.0/8 that the host of -addr :PORT is in")
	f.StringVar(&c.ID, "id", "", "`ID` of the endpoint within its service (default -addr)")
	f.DurationVar(&f.ttl, "ttl", 15*time.Second, "the announcement is gone `DUR` after this process is; 2s to 24h")
	f.checks = f.List("health", []string{"tcp:"}, "`SPEC` of a check, see above; may be given several times")
	f.StringVar(&c.DockerHost, "docker-host", "unix:///var/run/docker.sock", "`URL` of the engine's socket, for -docker and docker: checks")
	f.DurationVar(&c.Interval, "interval", 2*time.Second, "`DUR` between two checks; while -rise or -fall is being counted 250ms at most")
	f.DurationVar(&c.Timeout, "timeout", time.Second, "`DUR` a check may take")
	f.IntVar(&c.Rise, "rise", 2, "`N` passes in a row until it is announced")
	f.IntVar(&c.Fall, "fall", 3, "`N` failures in a row until it is withdrawn")
	f.DurationVar(&c.StartPeriod, "start-period", 30*time.Second, "`DUR` in which failures don't count, before the first pass")
	f.DurationVar(&c.Drain, "drain", 5*time.Second, "`DUR` between withdrawing and the end, for requests that are running")
	f.routes = f.List("route", nil, "`ROUTE` the service answers, [HOST]/PATH such as example.com/api; may be given several times")
	f.tags = f.List("tag", nil, "`TAG` to announce; may be given several times")
	f.labels = f.List("label", nil, "`KEY=VALUE` to announce; may be given several times")
	f.IntVar(&f.weight, "weight", catalog.DefaultWeight, "`N`, the share of the requests beside the others, 0 to 65535")
	f.StringVar(&c.Zone, "zone", "", "`ZONE` to announce")
	f.StringVar(&f.store, "store", "etcd://127.0.0.1:2379", "`URL` of etcd, etcd://[USER[:PASSWORD]@]HOST:PORT[,HOST:PORT]; etcds:// for TLS")
	f.StringVar(&c.Prefix, "prefix", catalog.DefaultPrefix, "`KEY` under which services are announced")
	f.StringVar(&f.onExit, "on-exit", "withdraw", "withdraw, or keep: `WHAT` becomes of the announcement on SIGTERM; what is kept lives\nfor -ttl, and the next sidekick takes it up without a change that anybody sees")
	f.StringVar(&f.state, "state", "", "`DIR` that remembers the lease over a restart or crash (default $RUNTIME_DIRECTORY; with\n-on-exit keep else $STATE_DIRECTORY, $XDG_STATE_HOME/muster or ~/.local/state/muster)")
	f.BoolVar(&f.takeOver, "takeover", false, "take the keys from whoever holds them, such as another sidekick with this -id")
	f.StringVar(&f.status, "status", "", "`unix:PATH` or HOST:PORT to serve /healthz, /readyz, /status, /metrics and POST /beat at")
	f.DurationVar(&c.StopTimeout, "stop-timeout", 10*time.Second, "`DUR` between SIGTERM and SIGKILL of CMD")
	f.StringVar(&f.portEnv, "port-env", "", "`NAME` of the environment variable that tells CMD the port of -addr; port 0 takes a free one")
	f.log = f.Log(std)
}

// parse reads args. Where it returns ok == false the command ends with code.
func (f *flags) parse(ctx context.Context, std cli.Std, args []string) (code int, ok bool) {
	names, command, code, ok := f.Parse(std, args)
	if !ok {
		return code, false
	}
	env := foreign(std.Getenv)
	f.forgetConfig(env, names)
	if !f.Given("docker-host") {
		f.cfg.DockerHost = env.dockerHost(f.cfg.DockerHost)
	}
	var err error
	switch {
	case f.docker:
		err = f.completeContainers(ctx, env, names, command)
	case f.network != "":
		err = errors.New("-docker-network: want -docker too, which it is for")
	case f.config != "":
		err = f.completeDefaults(names, command)
	default:
		names = env.complete(f, names)
		if err = f.complete(names, command); err == nil {
			err = f.address(ctx, env)
		}
	}
	if late, ok := errors.AsType[*notNowError](err); ok {
		f.log().Error("failed", "err", late.error)
		return cli.Failed, false
	}
	if err != nil {
		return f.Wrong(std, "%v", err), false
	}
	if f.cfg.App != nil {
		f.cfg.App.Stdin, f.cfg.App.Stdout, f.cfg.App.Stderr = std.In, std.Out, std.Err
	}
	return 0, true
}

// forgetConfig forgets what the environment says of -config where there is a NAME
// or -docker, and of -docker where there is a NAME: it may be meant for another
// command, such as the proxy, or another sidekick of the machine.
func (f *flags) forgetConfig(env foreign, names []string) {
	if len(names) > 0 && env(cli.EnvName("docker")) != "" {
		f.docker = false
	}
	if !f.docker && f.network == env(cli.EnvName("docker-network")) {
		f.network = ""
	}
	if (len(names) > 0 || f.docker) && f.config == env(cli.EnvName("config")) {
		f.config = ""
	}
}

// A notNowError is no fault of the flags: later, or elsewhere, they may do.
type notNowError struct{ error }

// complete makes the Config of what was given. What sidekick.New checks is left
// to it.
func (f *flags) complete(names, command []string) error {
	if err := f.checkOne(names, command); err != nil {
		return err
	}
	f.cfg.Service = names[0]
	if len(command) > 0 {
		f.cfg.App = exec.Command(command[0], command[1:]...)
		f.cfg.App.Env = appEnviron()
	}
	return f.common()
}

// common is what goes for one app and for all of -config.
func (f *flags) common() error {
	if err := f.check(); err != nil {
		return err
	}
	c := &f.cfg
	c.Checks, c.Routes, c.Tags, c.TTL = *f.checks, *f.routes, *f.tags, f.ttl
	labels, err := parseLabels(*f.labels)
	if err != nil {
		return err
	}
	c.Labels, c.Keep = labels, f.onExit == "keep"
	// In Config zero is the default and negative is none.
	c.Drain, c.StartPeriod, c.StopTimeout = orNone(c.Drain), orNone(c.StartPeriod), orNone(c.StopTimeout)
	c.Weight = orNone(f.weight)
	c.Host, _ = os.Hostname() // announced for people; it may be missing
	return nil
}

// address finds what -addr leaves open: the host, the port.
func (f *flags) address(ctx context.Context, env foreign) (err error) {
	c := &f.cfg
	if host, port, err := net.SplitHostPort(c.Addr); err == nil && host == "" && port != "" {
		host, now, err := f.chosenHost(ctx, env, f.iface, f.cidr)
		switch {
		case err != nil && !now:
			return &notNowError{err}
		case err != nil:
			return err
		}
		c.Addr = net.JoinHostPort(host, port)
	}
	if f.portEnv == "" {
		return nil
	}
	if c.Addr, err = takePort(c.Addr); err != nil {
		return &notNowError{fmt.Errorf("-port-env: %w", err)}
	}
	_, port, _ := net.SplitHostPort(c.Addr)
	c.App.Env = append(c.App.Env, f.portEnv+"="+port)
	return nil
}

// checkOne checks what is said of one app alone.
func (f *flags) checkOne(names, command []string) error {
	switch {
	case len(names) == 0:
		return fmt.Errorf("want the NAME of the service, or SERVICE_NAME in the environment")
	case len(names) > 1:
		return fmt.Errorf("%q: want one NAME, and a command behind --", names[1])
	case f.cfg.Addr == "":
		return fmt.Errorf("-addr: want HOST:PORT, where others reach the app")
	case (f.iface != "" || f.cidr != "") && !strings.HasPrefix(f.cfg.Addr, ":"):
		return fmt.Errorf("-interface and -cidr choose the host of -addr :PORT: %q has one", f.cfg.Addr)
	case f.onExit == "keep" && command != nil:
		return fmt.Errorf("-on-exit keep: want no command, as the app ends with the sidekick")
	case command != nil && len(command) == 0:
		return fmt.Errorf("want a command behind --")
	case f.portEnv != "" && command == nil:
		return fmt.Errorf("-port-env %s: want a command behind --, which it is for", f.portEnv)
	case strings.HasSuffix(f.cfg.Addr, ":0") && f.portEnv == "":
		return fmt.Errorf("-addr %q: want a port, or -port-env to take a free one", f.cfg.Addr)
	}
	return nil
}

func (f *flags) check() error {
	switch {
	case f.status == "" && beats(*f.checks):
		return fmt.Errorf("-health heartbeat: wants -status too, where the app beats")
	case f.onExit != "withdraw" && f.onExit != "keep":
		return fmt.Errorf("-on-exit %q: want withdraw or keep", f.onExit)
	case f.ttl < 2*time.Second || f.ttl > 24*time.Hour:
		return fmt.Errorf("-ttl %v: want 2s to 24h", f.ttl)
	case f.cfg.Interval <= 0 || f.cfg.Timeout <= 0:
		return fmt.Errorf("-interval %v, -timeout %v: want more than 0", f.cfg.Interval, f.cfg.Timeout)
	case f.cfg.Rise < 1 || f.cfg.Fall < 1:
		return fmt.Errorf("-rise %d, -fall %d: want 1 or more", f.cfg.Rise, f.cfg.Fall)
	case f.cfg.Drain < 0 || f.cfg.StartPeriod < 0 || f.cfg.StopTimeout < 0:
		return fmt.Errorf("-drain %v, -start-period %v, -stop-timeout %v: want 0 or more", f.cfg.Drain, f.cfg.StartPeriod, f.cfg.StopTimeout)
	case f.weight < 0 || f.weight > 65535:
		return fmt.Errorf("-weight %d: want 0 to 65535", f.weight)
	}
	if scheme, _, _ := strings.Cut(f.store, "://"); scheme != "etcd" && scheme != "etcds" {
		return fmt.Errorf("-store %s://…: announcing writes, so it takes etcd only: want etcd://HOST:PORT or etcds://HOST:PORT", scheme)
	}
	return nil
}

// beats reports whether a check waits for the app's beats.
func beats(specs []string) bool {
	return slices.ContainsFunc(specs, func(spec string) bool { return strings.HasPrefix(spec, "heartbeat:") })
}

func parseLabels(texts []string) (map[string]string, error) {
	labels := make(map[string]string)
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("-label %q: want KEY=VALUE", text)
		}
		labels[key] = value
	}
	return labels, nil
}

// orNone says none as Config does.
func orNone[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// takePort replaces port 0 of addr by one that is free now.
func takePort(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "0" {
		return addr, nil // New says what is wrong
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), nil
}
