package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/valyala/fasthttp"

	"muster/proxy"
)

// show is the screen.
func (d *demoStack) show(storeAddr string) {
	balancer, page := d.edge.proxy.Addrs()[0], d.edge.admin.Addr().String()
	me := calledAs()
	w := d.std.Out
	fmt.Fprint(w, "muster demo — everything below is real, and goes away with Ctrl-C\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(t, "  "+strings.Join(cells, "\t")) }
	row("store", "etcd "+storeAddr, fmt.Sprintf("%d endpoints of \"web\"; web/3 is slow", len(d.backends)))
	row("balancer", "http://"+balancer, "each answer names its endpoint")
	row("dashboard", "http://"+page, "services, endpoints, rates, live")
	if taken := takenPorts(map[string]string{"2379": storeAddr, "8080": balancer, "9900": page}); len(taken) > 0 {
		row("taken", strings.Join(taken, ", "), "so a free port instead")
	}
	t.Flush()
	fmt.Fprint(w, "\n  try\n")
	try := func(what string, commands ...string) {
		fmt.Fprintf(w, "    # %s\n", what)
		for _, c := range commands {
			fmt.Fprintf(w, "    %s\n", c)
		}
	}
	try("who answers, and what it was asked", "curl -i http://"+balancer+"/")
	try("a slow failure: see it on the dashboard", "curl 'http://"+balancer+"/?delay=2s&status=503'")
	try("web/1 fails its check and leaves; status=200 brings it back", "curl -d '' 'http://"+d.backends[0].addr+"/healthz?status=503'")
	try("a fourth backend in another terminal, and its sidekick",
		me+" echo -name web/4 -listen 127.0.0.1:9004 &",
		me+" sidekick web -addr 127.0.0.1:9004 -store "+d.storeURL)
	if d.interactive() {
		try("stop web/2 without a word to anybody; once more starts it again", "press k and Enter here")
	}
	fmt.Fprintln(w)
}

// takenPorts are those of the usual ports whose part is at another.
func takenPorts(usual map[string]string) (taken []string) {
	for port, addr := range usual {
		if _, p, _ := net.SplitHostPort(addr); p != port {
			taken = append(taken, port)
		}
	}
	slices.Sort(taken)
	return taken
}

// calledAs is what to type to run this binary again.
func calledAs() string {
	self, err := os.Executable()
	if found, e := exec.LookPath("muster"); e == nil && err == nil && found == self {
		return "muster"
	}
	if err == nil && strings.Contains(self, "go-build") {
		return "go run ./cmd/muster"
	}
	return os.Args[0]
}

// tell prints what happens until ctx ends: endpoints that come, go or fail at
// once, the traffic every few seconds.
func (d *demoStack) tell(ctx context.Context) {
	look, sum := time.NewTicker(100*time.Millisecond), time.NewTicker(5*time.Second)
	defer look.Stop()
	defer sum.Stop()
	line := func(text string) { fmt.Fprintf(d.std.Out, "  %s  %s\n", time.Now().Format("15:04:05"), text) }
	states, last, lastAt := "", d.web(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if now := demoStates(d.web()); now != states {
				states = now
				line(states)
			}
		case now := <-sum.C:
			web := d.web()
			if d.rate > 0 || web.Requests > last.Requests {
				line(demoTraffic(last, web, now.Sub(lastAt), d.failed.Load()))
			}
			last, lastAt = web, now
		}
	}
}

// web is the balancer's view of the service.
func (d *demoStack) web() proxy.ServiceStatus {
	for _, s := range d.edge.proxy.Status().Services {
		if s.Name == "web" {
			return s
		}
	}
	return proxy.ServiceStatus{}
}

// demoStates is web/1 up   web/2 failing (connection refused)   …
func demoStates(web proxy.ServiceStatus) string {
	var all []string
	for _, u := range web.Upstreams {
		text := web.Name + "/" + u.ID + " " + u.State
		if u.State == "failing" {
			text += " (" + lastOf(u.Reason) + ")"
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return "no endpoint"
	}
	return strings.Join(all, "   ")
}

// lastOf is the cause at the end of a chain of errors.
func lastOf(reason string) string {
	if i := strings.LastIndex(reason, ": "); i >= 0 {
		return reason[i+2:]
	}
	return reason
}

// demoTraffic is what happened between two looks.
func demoTraffic(before, now proxy.ServiceStatus, took time.Duration, failed uint64) string {
	latency := now.Latency.Since(before.Latency)
	was := make(map[string]uint64)
	for _, u := range before.Upstreams {
		was[u.ID+" "+u.Addr] = u.Requests
	}
	var counts []uint64
	var sum uint64
	for _, u := range now.Upstreams {
		n := u.Requests - min(u.Requests, was[u.ID+" "+u.Addr])
		counts = append(counts, n)
		sum += n
	}
	var shares []string
	for _, n := range counts {
		shares = append(shares, fmt.Sprintf("%.0f", 100*float64(n)/float64(max(1, sum))))
	}
	return fmt.Sprintf("%.0f req/s   p50 %s   p99 %s   errors %d   share %s",
		float64(now.Requests-before.Requests)/took.Seconds(), milliseconds(latency.P50), milliseconds(latency.P99), failed, strings.Join(shares, "/"))
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// load sends d.rate requests a second, evenly spaced.
func (d *demoStack) load(ctx context.Context) {
	if d.rate == 0 {
		return
	}
	client := &fasthttp.HostClient{Addr: d.edge.proxy.Addrs()[0], Name: "muster demo", MaxConns: 1000, MaxIdemponentCallAttempts: 1, MaxIdleConnDuration: 10 * time.Second}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second / time.Duration(d.rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wg.Go(func() {
			status, _, err := client.GetTimeout(nil, "http://"+client.Addr+"/", 10*time.Second)
			if err != nil || status != fasthttp.StatusOK {
				d.failed.Add(1)
			}
		})
	}
}

// interactive reports whether somebody sits at the terminal.
func (d *demoStack) interactive() bool {
	f, ok := d.std.In.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull && foreground(f)
}

// keys reads what is typed: k stops web/2, and starts it again.
func (d *demoStack) keys(ctx context.Context) {
	if !d.interactive() {
		return
	}
	lines := bufio.NewScanner(d.std.In)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) != "k" {
			continue
		}
		select {
		case d.backends[1].toggle <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}
