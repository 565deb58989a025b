package confd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"muster/backends/open"
	"muster/cmd/internal/cli"
	"muster/template"
)

const templateHelp = `Keeps files in step with a store: each resource, a TOML file in CONFDIR/conf.d,
names a template in CONFDIR/templates, the keys it takes, the file it makes, and
what to run when that changed. The files are confd's; so is the command line when
this binary is called confd. Without -onetime and -interval it follows the store.`

// Template is "muster template": confd's engine behind muster's flags and log.
func Template(ctx context.Context, std cli.Std, args []string) int {
	f := cli.NewFlags("template", "[-onetime | -watch | -interval DURATION] [flags]", templateHelp)
	onetime := f.Bool("onetime", false, "render every resource once and exit; 1 if one failed")
	watch := f.Bool("watch", false, "render when keys change (the default)")
	interval := f.Duration("interval", 0, "render every `DURATION`, reading the resources anew")
	confdir := f.String("confdir", "/etc/confd", "`DIR` of conf.d and templates")
	store := f.String("store", "etcd://127.0.0.1:2379", "`URL` of the store: etcd://, etcds://, consul://, consuls://, vault://, vaults://, redis://, rediss://, zk://, zks://, dynamodb:TABLE, ssm:, secretsmanager:, acm:, imds:, rancher://, docker:, file:PATH or env:")
	prefix := f.String("prefix", "", "`PREFIX` of the keys, instead of each resource's own")
	noop := f.Bool("noop", false, "say what differs and change nothing")
	syncOnly := f.Bool("sync-only", false, "run neither check_cmd nor reload_cmd")
	debounce := f.Duration("debounce", template.DefaultQuiet, "with -watch, render when keys are quiet for `DURATION`; 0 renders each change")
	metricsAddr := f.String("metrics-addr", "", "serve /metrics, /healthz and /status at `ADDRESS`")
	diff := f.Bool("diff", false, "write what differs in a file to stdout; it shows the values of keys")
	logger := f.Log(std)
	rest, command, code, ok := f.Parse(std, args)
	switch {
	case !ok:
		return code
	case len(rest)+len(command) > 0:
		return f.Wrong(std, "unexpected %q", strings.Join(append(rest, command...), " "))
	case *onetime && *watch, *onetime && *interval != 0, *watch && *interval != 0:
		return f.Wrong(std, "want only one of -onetime, -watch and -interval")
	case *interval < 0:
		return f.Wrong(std, "-interval %v: want no negative one", *interval)
	}
	log := logger()
	s, err := open.URL(*store, log)
	switch {
	case errors.Is(err, open.ErrNone):
		return f.Wrong(std, "-store none: a template needs a store")
	case err != nil:
		return f.Wrong(std, "%v", err)
	}
	defer s.Close()
	var failures atomic.Int64
	c := template.Config{
		Confdir: *confdir, Store: s, Prefix: *prefix, Noop: *noop, SyncOnly: *syncOnly, Quiet: quiet(*debounce),
		Report: func(ev template.Event) {
			if ev.What == template.Failed {
				failures.Add(1)
			}
			tell(log, ev)
		},
	}
	if *diff {
		c.Report = differ(std.Out, c.Report)
	}
	engine, err := template.New(c)
	if err == nil && !*onetime {
		var stop func()
		if stop, err = serve(*metricsAddr, engine, log); err == nil {
			defer stop()
		}
		defer onHangup(engine.Reread)()
	}
	if err == nil {
		var stop func()
		ctx, stop = cli.Signals(ctx)
		defer stop()
		err = drive(ctx, engine, *onetime, *interval)
	}
	if err != nil {
		if failures.Load() == 0 { // else the log has told each
			fmt.Fprintf(std.Err, "muster template: %v\n", err)
		}
		return cli.Failed
	}
	return cli.Done
}

func drive(ctx context.Context, e *template.Engine, onetime bool, interval time.Duration) error {
	switch {
	case onetime:
		return e.Once(ctx)
	case interval > 0:
		return e.Every(ctx, interval)
	}
	return e.Watch(ctx)
}

// tell logs what happened in muster's words.
func tell(log *slog.Logger, ev template.Event) {
	if ev.Resource != nil {
		log = log.With("resource", ev.Resource.File, "dest", ev.Resource.Dest)
	}
	switch ev.What {
	case template.Updated:
		log.Info("file updated")
	case template.Spared:
		log.Info("file left as it is (-noop)")
	case template.Differs:
		log.Info("file differs", "in", ev.Field, "have", ev.Have, "want", ev.Want)
	case template.Postponed:
		log.Debug("reload_cmd waits", "for", ev.Text)
	case template.InSync:
		log.Debug("file in sync")
	case template.Running:
		log.Debug("command starts", "key", ev.Key, "command", ev.Text)
	case template.Ran:
		log.Debug("command ended", "key", ev.Key, "output", ev.Text)
	case template.Empty:
		log.Warn("nothing to render", "err", ev.Err)
	case template.StoreFailed:
		log.Warn("store is away", "err", ev.Err)
	case template.Uncomparable:
		log.Warn("file can't be compared", "err", ev.Err)
	case template.Failed:
		log.Error("resource failed", "err", ev.Err)
	}
}
