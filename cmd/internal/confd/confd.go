// Package confd is two command lines over package template: [Main] is the
// original confd's, in its words, and [Template] is "muster template".
package confd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"muster/backends"
	"muster/backends/open"
	"muster/backends/vault"
	"muster/cmd/internal/cli"
	"muster/internal/storeaddr"
	"muster/template"
)

// compatible is the version of confd whose command line this is.
const compatible = "0.17.0-dev"

// Main runs confd as args say and returns its exit code. argv0 is how it was
// called. It handles SIGINT and SIGTERM itself: as in the original they end
// -onetime as they end any process, and the others with code 0.
func Main(ctx context.Context, std cli.Std, argv0 string, args []string) int {
	return (&program{std, net.DefaultResolver}).main(ctx, argv0, args)
}

// A program is confd with its surroundings.
type program struct {
	cli.Std
	dns *net.Resolver
}

func (std *program) main(ctx context.Context, argv0 string, args []string) int {
	level := new(slog.LevelVar)
	log := slog.New(newHandler(std.Err, level, argv0))
	o, code, ok, err := parse(std.Std, argv0, args)
	switch {
	case err != nil:
		fatal(log, err)
		return code
	case !ok:
		return code
	case o.Version:
		fmt.Fprintf(std.Out, "confd %s (Git SHA: %s, Go Version: %s)\n", compatible, revision(), runtime.Version())
		return cli.Done
	}
	l, err := parseLevel(o.LogLevel)
	if err == nil {
		level.Set(l)
		err = std.run(ctx, log, &o)
	}
	if err != nil {
		fatal(log, err)
		return cli.Failed
	}
	return cli.Done
}

// run is confd once it knows its options and its log.
func (std *program) run(ctx context.Context, log *slog.Logger, o *options) error {
	if err := std.findNodes(ctx, log, o); err != nil {
		return err
	}
	log.Info("Backend set to " + o.Backend)
	if o.Backend == "dynamodb" && o.Table == "" {
		return errors.New("no DynamoDB table configured")
	}
	log.Info("Starting confd")
	sources := slices.Clone(o.Nodes)
	for i, node := range sources {
		sources[i] = storeaddr.Hide(node)
	}
	if o.Backend == "file" {
		sources = o.Files
	}
	log.Info("Backend source(s) set to " + strings.Join(sources, ", "))
	if o.Backend == "dynamodb" {
		log.Info("DynamoDB table set to " + o.Table)
	}
	if o.Backend == "rancher" {
		log.Info("Using Rancher Metadata URL: " + metadataURL(o.Nodes))
	}
	if o.Backend == "vault" {
		if err := checkVault(o, log); err != nil {
			return err
		}
	}
	store, err := std.open(log, o)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := reach(ctx, store); err != nil {
		return err
	}
	c := template.Config{
		Confdir: o.Confdir, Store: store, Prefix: o.Prefix, Quiet: quiet(o.Debounce),
		Noop: o.Noop, SyncOnly: o.SyncOnly, KeepStage: o.KeepStage,
		Report: func(ev template.Event) { report(log, ev) },
	}
	if o.Diff {
		c.Report = differ(std.Out, c.Report)
	}
	engine, err := template.New(c)
	if err != nil {
		return err
	}
	if o.Onetime {
		return engine.Once(ctx)
	}
	stopServing, err := serve(o.MetricsAddr, engine, log)
	if err != nil {
		return err
	}
	defer stopServing()
	ctx, stop := untilSignal(ctx, log, engine)
	defer stop()
	if o.Watch {
		return engine.Watch(ctx)
	}
	// The original takes 0 for "without a pause", which helps nobody.
	return engine.Every(ctx, max(time.Second, time.Duration(o.Interval)*time.Second))
}

// quiet is -debounce as the engine has it: its zero is the default.
func quiet(debounce time.Duration) time.Duration {
	if debounce <= 0 {
		return -1
	}
	return debounce
}

// reach ends confd where the original ends too: some stores have to be there at
// the start, whatever it was asked to do. Later they may go and come.
func reach(ctx context.Context, s backends.Store) error {
	if r, ok := s.(interface{ Reach(context.Context) error }); ok {
		return r.Reach(ctx)
	}
	return nil
}

// open opens the store, and follows it where DNS says where it is. Only those on
// other machines are Together, and can move.
func (std *program) open(log *slog.Logger, o *options) (backends.Store, error) {
	o.endpoint = std.localEndpoint(o.Backend)
	if o.Backend == "acm" && o.ExportKey {
		if o.passphrase = std.Getenv("ACM_PASSPHRASE"); o.passphrase == "" {
			return nil, errors.New("ACM_PASSPHRASE environment variable is required when exporting private keys")
		}
	}
	store, err := open.Confd(o.store(log))
	there, ok := store.(backends.Together)
	if err != nil || o.SRVRecord == "" || !ok {
		return store, err
	}
	return &movable{
		lookup: func(ctx context.Context) ([]string, error) { return std.lookupSRV(ctx, o) },
		open: func(nodes []string) (backends.Together, error) {
			moved := *o
			moved.Nodes = nodes
			store, err := open.Confd(moved.store(log))
			there, _ := store.(backends.Together) // as the first was
			return there, err
		},
		log: log, now: &place{Together: there, nodes: o.Nodes},
	}, nil
}

// store is what backends/open needs to know.
func (o *options) store(log *slog.Logger) open.ConfdConfig {
	c := open.ConfdConfig{
		Backend: o.Backend, Nodes: o.Nodes, Files: o.Files, Filter: o.Filter, Scheme: o.Scheme,
		CAKeys: o.ClientCAKeys, Cert: o.ClientCert, Key: o.ClientKey, Separator: o.Separator, Log: log,
		Endpoint: o.endpoint, Table: o.Table, VersionStage: o.VersionStage, NoFlatten: o.NoFlatten, Passphrase: o.passphrase,
		Auth: vault.Auth{
			Type: o.AuthType, Mount: o.Path, Token: o.AuthToken, AppID: o.AppID, UserID: o.UserID,
			RoleID: o.RoleID, SecretID: o.SecretID, Username: o.Username, Password: o.Password,
		},
	}
	if o.intervalGiven {
		c.Interval = max(time.Second, time.Duration(o.Interval)*time.Second)
	}
	if o.Backend == "imds" && o.IMDSCacheTTL > 0 {
		c.Interval = o.IMDSCacheTTL
	}
	if o.BasicAuth {
		c.Username, c.Password = o.Username, o.Password
	}
	switch o.Backend {
	case "", "etcd", "etcdv3":
		c.Nodes = bareNodes(o.Nodes)
	}
	return c
}

// localEndpoint is where a service of AWS is looked for on this machine, as the
// original and its fork are told by variables. Empty means what the SDK finds.
func (std *program) localEndpoint(backend string) string {
	if backend == "imds" {
		return std.Getenv("IMDS_ENDPOINT")
	}
	name := strings.ToUpper(backend)
	switch endpoint := std.Getenv(name + "_ENDPOINT_URL"); {
	case std.Getenv(name+"_LOCAL") == "":
		return ""
	case endpoint != "":
		return endpoint
	}
	return map[string]string{"dynamodb": "http://localhost:8000", "ssm": "http://localhost:8001"}[backend]
}

// metadataURL is the first of rancher's nodes, as the original names it.
func metadataURL(nodes []string) string {
	if len(nodes) == 0 {
		return "http://rancher-metadata"
	}
	_, after, ok := strings.Cut(nodes[0], "://")
	if ok {
		return "http://" + after
	}
	return "http://" + nodes[0]
}

// bareNodes are etcd's nodes without what the original does not look at: of a
// URL all but scheme and host, and an empty one.
func bareNodes(nodes []string) (bare []string) {
	for _, node := range nodes {
		if u, err := url.Parse(node); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
			node = u.Scheme + "://" + u.Host
		}
		if node != "" {
			bare = append(bare, node)
		}
	}
	return bare
}

// findNodes sets the nodes from DNS, if it is asked to, or to the default.
func (std *program) findNodes(ctx context.Context, log *slog.Logger, o *options) error {
	if o.Backend == "env" {
		return nil
	}
	if o.SRVDomain != "" && o.SRVRecord == "" {
		o.SRVRecord = fmt.Sprintf("_%s._tcp.%s.", o.Backend, o.SRVDomain)
	}
	if o.SRVRecord != "" {
		log.Info("SRV record set to " + o.SRVRecord)
		nodes, err := std.lookupSRV(ctx, o)
		if err != nil {
			return err
		}
		o.Nodes = nodes
	}
	if len(o.Nodes) > 0 {
		return nil
	}
	switch o.Backend {
	case "etcd":
		peers := std.Getenv("ETCDCTL_PEERS")
		switch {
		case peers != "":
			o.Nodes = strings.Split(peers, ",")
		case o.fork:
			o.Nodes = []string{"http://127.0.0.1:2379"}
		default:
			o.Nodes = []string{"http://127.0.0.1:4001"}
		}
	case "etcdv3":
		o.Nodes = []string{"127.0.0.1:2379"}
	case "consul":
		o.Nodes = []string{"127.0.0.1:8500"}
	case "vault":
		o.Nodes = []string{"http://127.0.0.1:8200"}
	case "redis":
		o.Nodes = []string{"127.0.0.1:6379"}
	case "zookeeper":
		o.Nodes = []string{"127.0.0.1:2181"}
	}
	return nil
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends, and says
// so; the second ends the process. SIGHUP, which ends the original, reads the
// resources again.
func untilSignal(parent context.Context, log *slog.Logger, e *template.Engine) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	unhang := onHangup(func() {
		log.Info("Captured hangup. Reading the template resources again")
		e.Reread()
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer signal.Stop(signals)
		select {
		case s := <-signals:
			log.Info(fmt.Sprintf("Captured %v. Exiting...", s))
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-done; unhang() }
}

// onHangup calls do at each SIGHUP until stop is called.
func onHangup(do func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	ended, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-signals:
				do()
			case <-end:
				return
			}
		}
	}()
	return func() { signal.Stop(signals); close(end); <-ended }
}

func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
