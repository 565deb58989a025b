package sidekickcmd

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"muster/catalog"
	"muster/cmd/internal/cli"
	"muster/sidekick"
)

const summary = `Announces the service NAME at -addr in etcd while its checks pass, under a lease:
as /services/NAME/ID, with metadata as /services.meta/NAME/ID. On SIGTERM it
withdraws, waits for -drain and ends; on a second one it ends at once.

With -- CMD it runs the app too. Both end together: on SIGTERM the app gets its
own after the drain, and the exit code is the app's (128+n for a signal).

A SPEC is tcp: (connect to -addr), http:/PATH or https:/PATH (GET it there, 200 to
399 passes, certificates are not verified), exec:COMMAND (exit code 0 by sh -c) or
none. Several have to pass all.`

// flags are the command's flags, and what they say once parsed.
type flags struct {
	*cli.Flags
	log func() *slog.Logger

	store, portEnv string
	ttl            time.Duration
	weight         int
	cfg            sidekick.Config
	checks         *[]string
	routes         *[]string
	tags           *[]string
	labels         *[]string
}

func newFlags(std cli.Std) *flags {
	f := &flags{Flags: cli.NewFlags("sidekick", "NAME -addr HOST:PORT [flags] [-- CMD ARGS...]", summary)}
	c := &f.cfg
	f.StringVar(&c.Addr, "addr", "", "`HOST:PORT` at which others reach the app")
	f.StringVar(&c.ID, "id", "", "`ID` of the endpoint within its service (default -addr)")
	f.DurationVar(&f.ttl, "ttl", 15*time.Second, "`time` until the announcement is gone when this process is; 2s to 24h")
	f.checks = f.List("health", []string{"tcp:"}, "`SPEC` of a check; may be given several times")
	f.DurationVar(&c.Interval, "interval", 2*time.Second, "`time` between two checks")
	f.DurationVar(&c.Timeout, "timeout", time.Second, "`time` a check may take")
	f.IntVar(&c.Rise, "rise", 2, "passes in a row until it is announced; at the start at most 250ms apart")
	f.IntVar(&c.Fall, "fall", 3, "failures in a row until it is withdrawn")
	f.DurationVar(&c.StartPeriod, "start-period", 30*time.Second, "`time` in which failures don't count, before the first pass")
	f.DurationVar(&c.Drain, "drain", 5*time.Second, "`time` between withdrawing and the end, for requests that are running")
	f.routes = f.List("route", nil, "`ROUTE` the service answers, [HOST]/PATH such as example.com/api; may be given several times")
	f.tags = f.List("tag", nil, "`TAG` to announce; may be given several times")
	f.labels = f.List("label", nil, "`KEY=VALUE` to announce; may be given several times")
	f.IntVar(&f.weight, "weight", catalog.DefaultWeight, "share of the requests beside the others, 0 to 65535")
	f.StringVar(&c.Zone, "zone", "", "`ZONE` to announce")
	f.StringVar(&f.store, "store", "etcd://127.0.0.1:2379", "`URL` of etcd, etcd://[USER[:PASSWORD]@]HOST:PORT[,HOST:PORT]; etcds:// for TLS")
	f.StringVar(&c.Prefix, "prefix", catalog.DefaultPrefix, "`KEY` under which services are announced")
	f.DurationVar(&c.StopTimeout, "stop-timeout", 10*time.Second, "`time` between SIGTERM and SIGKILL of CMD")
	f.StringVar(&f.portEnv, "port-env", "", "`NAME` of the environment variable that tells CMD the port of -addr; port 0 takes a free one")
	f.log = f.Log(std)
	return f
}

// parse reads args. Where it returns ok == false the command ends with code.
func (f *flags) parse(std cli.Std, args []string) (cfg sidekick.Config, code int, ok bool) {
	names, command, code, ok := f.Parse(std, args)
	if !ok {
		return cfg, code, false
	}
	if err := f.complete(std, names, command); err != nil {
		return cfg, f.Wrong(std, "%v", err), false
	}
	return f.cfg, 0, true
}

// complete makes the Config of what was given. What sidekick.New checks is left
// to it.
func (f *flags) complete(std cli.Std, names, command []string) error {
	if err := f.check(names, command); err != nil {
		return err
	}
	c := &f.cfg
	c.Service = names[0]
	c.Checks, c.Routes, c.Tags = *f.checks, *f.routes, *f.tags
	labels, err := parseLabels(*f.labels)
	if err != nil {
		return err
	}
	c.Labels = labels
	// In Config zero is the default and negative is none.
	c.Drain, c.StartPeriod, c.StopTimeout = orNone(c.Drain), orNone(c.StartPeriod), orNone(c.StopTimeout)
	c.Weight = orNone(f.weight)
	c.Host, _ = os.Hostname() // announced for people; it may be missing
	if len(command) == 0 {
		return nil
	}
	c.App = exec.Command(command[0], command[1:]...)
	c.App.Stdin, c.App.Stdout, c.App.Stderr = std.In, std.Out, std.Err
	if f.portEnv == "" {
		return nil
	}
	if c.Addr, err = takePort(c.Addr); err != nil {
		return fmt.Errorf("-port-env: %w", err)
	}
	_, port, _ := net.SplitHostPort(c.Addr)
	c.App.Env = environ(f.portEnv + "=" + port)
	return nil
}

func (f *flags) check(names, command []string) error {
	switch {
	case len(names) == 0:
		return fmt.Errorf("want the NAME of the service")
	case len(names) > 1:
		return fmt.Errorf("%q: want one NAME, and a command behind --", names[1])
	case f.cfg.Addr == "":
		return fmt.Errorf("-addr: want HOST:PORT, where others reach the app")
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
	case command != nil && len(command) == 0:
		return fmt.Errorf("want a command behind --")
	case f.portEnv != "" && command == nil:
		return fmt.Errorf("-port-env %s: want a command behind --, which it is for", f.portEnv)
	case strings.HasSuffix(f.cfg.Addr, ":0") && f.portEnv == "":
		return fmt.Errorf("-addr %q: want a port, or -port-env to take a free one", f.cfg.Addr)
	}
	if scheme, _, _ := strings.Cut(f.store, "://"); scheme != "etcd" && scheme != "etcds" {
		return fmt.Errorf("-store %s://…: announcing writes, so it takes etcd only: want etcd://HOST:PORT or etcds://HOST:PORT", scheme)
	}
	return nil
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
