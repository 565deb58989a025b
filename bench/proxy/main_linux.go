package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the command: the benchmark, or as a child one of the peers.
func run(args []string) error {
	if len(args) > 2 && args[0] == "-pin" { // -pin CORE COMMAND...
		core, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		runtime.LockOSThread()
		if err := pin(core); err != nil {
			return err
		}
		return unix.Exec(args[2], args[2:], os.Environ())
	}
	if len(args) > 3 && args[0] == "-serve" { // -serve PEER LISTEN BACKEND...
		serve, ok := map[string]func(string, []string) error{"fasthttp": fastHTTP, "nethttp": netHTTP, "floor": floor}[args[1]]
		if !ok {
			return fmt.Errorf("no proxy %q", args[1])
		}
		return serve(args[2], args[3:])
	}

	fs := flag.NewFlagSet("bench", flag.ExitOnError)
	b := bench{log: os.Stderr}
	only := fs.String("only", "", "comma-separated workloads, all if empty: "+names())
	against := fs.String("peers", "", "comma-separated peers beside muster, all if empty")
	fs.IntVar(&b.Rounds, "rounds", 5, "rounds through all proxies")
	fs.DurationVar(&b.Window, "window", 2*time.Second, "how long each figure is taken")
	fs.DurationVar(&b.Warm, "warm", time.Second, "traffic before it")
	muster := fs.String("muster", "", "the muster binary to measure; empty: built from here")
	before := fs.String("before", "", "another muster binary beside it, such as that of the commit before")
	out := fs.String("o", "", "folder for bench.json, bench.md and bench.svg; empty: the table on stdout only")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.choose(*only, *against, *muster, *before); err != nil {
		return err
	}
	defer os.RemoveAll(b.built)
	if err := b.all(ctx); err != nil {
		return err
	}
	fmt.Print(b.Report.table())
	if *out == "" {
		return nil
	}
	text, err := json.MarshalIndent(b.Report, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"bench.json": string(text), "bench.md": b.Report.table(), "bench.svg": b.Report.plot()} {
		if err := write(filepath.Join(*out, name), text); err != nil {
			return err
		}
	}
	return nil
}

func names() string {
	var all []string
	for _, w := range workloads {
		all = append(all, w.name)
	}
	return strings.Join(all, ", ")
}

// A bench is one run.
type bench struct {
	Report
	self, built string // this program; a folder to remove
	peers       []peer
	log         io.Writer
}

// choose says which workloads and proxies take part.
func (b *bench) choose(only, against, muster, before string) (err error) {
	for name := range strings.SplitSeq(only, ",") {
		found := name == ""
		for _, w := range workloads {
			if only == "" || w.name == name {
				b.workloads, found = append(b.workloads, w), true
			}
		}
		if !found {
			return fmt.Errorf("no workload %q: want one of %s", name, names())
		}
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if muster == "" {
		if b.built, err = os.MkdirTemp("", "muster-bench"); err != nil {
			return err
		}
		muster = filepath.Join(b.built, "muster")
		if out, err := exec.Command("go", "build", "-trimpath", "-o", muster, "muster/cmd/muster").CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	all := peers(b.self, muster)
	if before != "" {
		old := peers(b.self, before)[0]
		old.name = "before"
		all = append(all[:1], append([]peer{old}, all[1:]...)...)
	}
	for _, p := range all {
		if against == "" || p.name == "muster" || p.name == "before" || strings.Contains(","+against+",", ","+p.name+",") {
			b.peers = append(b.peers, p)
		}
	}
	return nil
}

// all measures every workload and round.
func (b *bench) all(ctx context.Context) error {
	usable, err := cores()
	if err != nil {
		return err
	}
	if len(usable) < 2 {
		return fmt.Errorf("needs two cores, has %d", len(usable))
	}
	runtime.LockOSThread() // and never unlocked: the loop's thread stays on its core
	if err := pin(usable[1]); err != nil {
		return err
	}
	l, err := newLoop()
	if err != nil {
		return err
	}
	var ports []string
	for range 30 {
		port, err := l.listen()
		if err != nil {
			return err
		}
		ports = append(ports, fmt.Sprintf("127.0.0.1:%d", port))
	}
	b.Go, b.System, b.Pressure[0] = runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH, pressure()
	for _, w := range b.workloads {
		for round := range b.Rounds {
			for i := range b.peers {
				p := b.peers[(i+round)%len(b.peers)] // nobody is always first
				if p.name == "floor" && w.noFloor {
					continue
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				m, err := b.measure(ctx, l, w, p, usable[0], ports[:w.backends])
				if err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, p.name, err)
				}
				b.tell(w, p.name, m)
				fmt.Fprintf(b.log, "%s %d/%d %s: %s\n", w.name, round+1, b.Rounds, p.name, m)
			}
		}
	}
	b.Pressure[1] = pressure()
	return nil
}

// measure starts a proxy, sends it a workload and ends it.
func (b *bench) measure(ctx context.Context, l *loop, w workload, p peer, core int, backends []string) (m measure, err error) {
	r, err := p.start(ctx, b.self, core, backends)
	if err != nil {
		return m, err
	}
	defer r.stop()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w%s", err, r.said())
		}
	}()
	cpu := func() time.Duration {
		used, err := processorTime(r.cmd.Process.Pid)
		l.fail(err)
		return used
	}
	l.begin(w, r.port)
	defer l.end()
	if w.idle {
		before, err := resident(r.cmd.Process.Pid)
		if err != nil {
			return m, err
		}
		if err := l.rest(w); err != nil {
			return m, err
		}
		m.RSS, err = resident(r.cmd.Process.Pid)
		m.PerIdle = (m.RSS - before) / w.connections
		return m, err
	}
	if !w.fixed {
		if m, err = l.saturate(w, cpu, b.Warm, b.Window); err != nil {
			return m, err
		}
		l.end()
		l.begin(w, r.port)
	}
	open, err := l.poisson(w, cpu, b.Warm, b.Window)
	if w.fixed {
		m = open
	}
	m.Took, m.Waited = open.Took, open.Waited
	if err == nil {
		m.RSS, err = resident(r.cmd.Process.Pid)
	}
	return m, err
}
