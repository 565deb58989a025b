package sidekickcmd

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"muster/cmd/internal/cli"
	"muster/sidekick"
)

const unitSummary = `Prints the systemd unit of the sidekick that "muster sidekick NAME flags" would be.
It is bound to the app's unit: it starts after the app and stops before it. Where
-- CMD runs the app, there is one unit for both; with -config it is bound to none,
and a reload reads the files again. The flags are those of the sidekick
and these two; %i and ${NAME} are left for systemd, so write %% and $$ for % and $.

  muster unit web -health http:/ >/etc/systemd/system/web-sidekick@.service
  systemctl enable web-sidekick@8080   # starts it whenever web@8080 starts`

// A unit is what is printed.
type unit struct {
	*flags
	app, binary string
	fleet       bool
	command     []string
}

// own are the flags of "muster unit" alone.
var own = []string{"for", "binary", "fleet"}

// Unit is the command "muster unit".
func Unit(_ context.Context, std cli.Std, args []string) int {
	u := unit{flags: &flags{Flags: cli.NewFlags("unit", "NAME|-config FILE|DIR [-fleet] [-for UNIT] [-binary PATH] [flags of muster sidekick] [-- CMD ARGS...]", unitSummary)}}
	u.define(std)
	u.StringVar(&u.app, "for", "", "`UNIT` of the app (default NAME@%i.service)")
	u.StringVar(&u.binary, "binary", "/usr/local/bin/muster", "`PATH` of muster, or of sidekick, on the machine of the unit")
	u.BoolVar(&u.fleet, "fleet", false, "print the form for fleet: at COREOS_PRIVATE_IPV4, on the machine of -for")
	names, command, code, ok := u.Parse(std, args)
	if !ok {
		return code
	}
	u.command = command
	u.forgetConfig(std.Getenv, names)
	if err := u.complete(names); err != nil {
		return u.Wrong(std, "%v", err)
	}
	fmt.Fprint(std.Out, u.text())
	return cli.Done
}

// complete fills in what was not given, and checks what systemd does not
// replace.
func (u *unit) complete(names []string) error {
	if u.docker {
		return fmt.Errorf("-docker: want NAME or -config; docs/docker.md has the unit of -docker")
	}
	if u.config != "" {
		if u.fleet || u.app != "" {
			return fmt.Errorf("-fleet, -for: want them without -config, which is for no one app")
		}
		return u.completeDefaults(names, u.command)
	}
	given := u.Given("addr")
	if u.cfg.Addr == "" && u.command == nil {
		u.cfg.Addr = ":%i"
		if u.fleet {
			u.cfg.Addr = "${COREOS_PRIVATE_IPV4}:%i"
		}
	}
	if err := u.flags.complete(names, u.command); err != nil {
		return err
	}
	if !given {
		if err := u.Set("addr", u.cfg.Addr); err != nil {
			return err
		}
	}
	if u.fleet && u.command != nil {
		return fmt.Errorf("-fleet: want no command, as the unit goes with that of the app")
	}
	u.app = cmp.Or(u.app, u.cfg.Service+"@%i.service")
	return sidekick.CheckSpecs(u.cfg.Checks)
}

func (u *unit) text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	alone := u.command != nil || u.config != "" // bound to no other unit
	line("[Unit]")
	if alone {
		line("Description=%s", cmp.Or(u.cfg.Service, "announces what "+u.config+" says"))
		line("Wants=network-online.target")
		line("After=network-online.target")
	} else {
		line("Description=announces %s", u.app)
		line("BindsTo=%s", u.app)
		line("After=%s", u.app)
	}
	if !u.fleet {
		line("StartLimitIntervalSec=0")
	}
	line("")
	line("[Service]")
	line("Type=notify")
	if u.fleet {
		line("# COREOS_PRIVATE_IPV4")
		line("EnvironmentFile=/etc/environment")
		line("StartLimitInterval=0")
	} else {
		line("# MUSTER_STORE=etcd://10.0.0.1,10.0.0.2 and the like: every flag is such a variable")
		line("EnvironmentFile=-/etc/muster/host.env")
	}
	line("ExecStart=%s", u.execStart())
	if u.config != "" {
		line("ExecReload=/bin/kill -HUP $MAINPID")
	}
	line("# It is ready when it is announced; that may take as long as etcd is away.")
	line("TimeoutStartSec=0")
	line("# Leaving takes less: -drain%s, and some seconds for etcd.", map[bool]string{true: ", -stop-timeout"}[u.command != nil])
	line("TimeoutStopSec=%d", int((u.cfg.LeaveLimit() + 5*time.Second).Round(time.Second).Seconds()))
	line("WatchdogSec=30")
	if !u.fleet && u.command == nil {
		line("# The lease is remembered here, so that a restart changes nothing.")
		line("RuntimeDirectory=muster/%%N")
		line("RuntimeDirectoryPreserve=%s", map[bool]string{false: "restart", true: "yes"}[u.cfg.Keep])
	}
	line("# SIGTERM goes to the sidekick alone.")
	line("KillMode=mixed")
	line("Restart=on-failure")
	line("RestartSec=1")
	if u.command == nil {
		line("# Wrong flags don't get better.")
		line("RestartPreventExitStatus=%d", cli.Usage)
	}
	line("")
	switch {
	case u.fleet:
		line("[X-Fleet]")
		line("MachineOf=%s", u.app)
	case alone:
		line("[Install]")
		line("WantedBy=multi-user.target")
	default:
		line("[Install]")
		line("WantedBy=%s", u.app)
	}
	return b.String()
}

// execStart is the command line: what was given, and nothing else.
func (u *unit) execStart() string {
	words := []string{u.binary}
	if filepath.Base(u.binary) != "sidekick" {
		words = append(words, "sidekick")
	}
	if u.config == "" {
		words = append(words, u.cfg.Service)
	}
	u.Visit(func(f *flag.Flag) {
		if slices.Contains(own, f.Name) {
			return
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			words = append(words, "-"+f.Name+"="+f.Value.String())
			return
		}
		for _, value := range cli.Values(f) {
			words = append(words, "-"+f.Name, value)
		}
	})
	if u.command != nil {
		words = append(append(words, "--"), u.command...)
	}
	for i, word := range words {
		words[i] = quote(word)
	}
	return strings.Join(words, " ")
}

// quote writes a word as systemd reads it.
func quote(word string) string {
	special := func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"'\;`, r) }
	if word != "" && !strings.ContainsFunc(word, special) {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(word) + `"`
}
