package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"muster/backends/open"
	"muster/catalog"
	"muster/cmd/internal/cli"
	"muster/config"
)

const proxyHelp = `Balance HTTP to the services in the store. With no flags and no file it follows
/services in the local etcd and serves on :8080. A service is exposed when it
announces a route, when -default or -domain says so, or when it is the only one.
SIGHUP reads the file again; SIGTERM drains and exits, a second one exits at once.`

// proxyCommand is "muster proxy".
func proxyCommand(ctx context.Context, std cli.Std, args []string) int {
	f := cli.NewFlags("proxy", "[flags]", proxyHelp)
	listen := f.List("listen", []string{config.DefaultListen}, "accept requests on `ADDR`; may be given several times")
	adminAddr := f.String("admin", "127.0.0.1:9900", "status page, metrics and health on `ADDR`; \"\" for none")
	token := f.String("admin-token", "", "open -admin to other machines that say `TOKEN`; file:PATH reads it from a file")
	store := f.String("store", "etcd://127.0.0.1:2379", "follow the store at `URL`: etcd://HOST:PORT[,HOST:PORT], etcds://, docker:, file:PATH, or none")
	prefix := f.String("prefix", catalog.DefaultPrefix, "services are announced under `KEY`")
	fallback := f.String("default", "", "send what no route matches to `SERVICE`")
	domain := f.String("domain", "", "serve every service as NAME.`SUFFIX` too")
	file := f.String("config", "", "read `FILE` (default "+config.DefaultPath+", if it is there)")
	state := f.String("state", stateDir(std.Getenv), "keep what shall outlive a restart in `DIR`")
	logger := f.Log(std)
	positional, _, code, ok := f.Parse(std, args)
	if !ok {
		return code
	}
	if len(positional) > 0 {
		return f.Wrong(std, "unexpected %q: the proxy takes only flags", strings.Join(positional, " "))
	}
	e := &edge{
		StoreURL: *store, Prefix: *prefix, StateDir: *state, Admin: *adminAddr, Log: logger(), AccessLog: std.Out,
		Flags: config.Flags{Default: *fallback, Domain: strings.Trim(*domain, ".")},
	}
	slog.SetDefault(e.Log) // for libraries that log by themselves
	if f.Given("listen") {
		e.Flags.Listen = *listen
		for _, addr := range *listen {
			if err := config.CheckBind(addr); err != nil {
				return f.Wrong(std, "-listen %v", err)
			}
		}
	}
	if d := e.Flags.Domain; d != "" {
		if r, err := catalog.ParseRoute("x." + d + "/"); err != nil || strings.HasPrefix(r.Host, "*") {
			return f.Wrong(std, "-domain %q: want a suffix of host names, such as example.com", *domain)
		}
	}
	if strings.Contains(*fallback, "/") {
		return f.Wrong(std, "-default %q: want the name of a service", *fallback)
	}
	if *adminAddr != "" {
		if err := config.CheckBind(*adminAddr); err != nil {
			return f.Wrong(std, "-admin %v", err)
		}
	}
	var err error
	if e.AdminToken, err = secret(*token); err != nil {
		return f.Wrong(std, "-admin-token: %v", err)
	}
	if strings.Contains(*prefix, "//") || strings.ContainsAny(*prefix, " \t\n") ||
		!strings.HasPrefix(*prefix, "/") || strings.Trim(*prefix, "/") == "" {
		return f.Wrong(std, "-prefix %q: want a key that begins with a slash, such as /services", *prefix)
	}
	if *store != "none" {
		s, err := open.URL(*store, e.Log)
		if err != nil {
			return f.Wrong(std, "%v", err)
		}
		defer s.Close()
		e.Store = s
	}
	fail := func(err error) int {
		fmt.Fprintf(std.Err, "muster proxy: %v\n", err)
		return cli.Failed
	}
	if err := e.load(*file); err != nil {
		return fail(err)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, stop := cli.Signals(ctx)
	defer stop()
	e.Reloads = hup
	if err := e.start(); err != nil {
		return fail(err)
	}
	if err := e.run(ctx); err != nil {
		return fail(err)
	}
	return cli.Done
}

// load reads the file at path, or the default one where path is "" and it is
// there.
func (e *edge) load(path string) error {
	named := path != ""
	if !named {
		path = config.DefaultPath
	}
	e.Reload = func() (*config.File, error) {
		file, err := config.Load(path)
		if !named && errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return file, err
	}
	file, err := e.Reload()
	e.File = file
	return err
}

// secret is a flag's value, or what stands in the file that it names as
// file:PATH, so that others can't read it from the command line.
func secret(value string) (string, error) {
	path, ok := strings.CutPrefix(value, "file:")
	if !ok {
		return value, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if value = strings.TrimSpace(string(text)); value == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return value, nil
}
