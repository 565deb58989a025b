package sidekick

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"muster/catalog"
)

// A Config says what to announce, when, and under which lease. Service, Addr
// and Lease have to be set; every other zero means the default.
type Config struct {
	Service string // one path segment
	ID      string // one path segment; Addr where empty
	Addr    string // HOST:PORT at which others reach the app
	Prefix  string // where services are announced; [catalog.DefaultPrefix] where empty

	// Checks are the specs of the checks, which all have to pass. Empty means
	// tcp:. The one spec none means that the app is always taken to be up.
	//
	//	tcp:               Addr takes a connection
	//	http:/PATH         a GET there answers 200 to 399; https: too. Fields behind
	//	                   the path ask for more: status=200-299,304 body=TEXT
	//	                   host=NAME tls=verify
	//	grpc:SERVICE       grpc.health.v1 says SERVING; no SERVICE means the server
	//	exec:COMMAND       exit code 0 by sh -c
	//	heartbeat:TIME     [Sidekick.Beat] was called within TIME
	//	systemd:UNIT       the unit is active
	//	docker:CONTAINER   the container runs and, if it has a HEALTHCHECK, is healthy
	Checks      []string
	DockerHost  string        // of docker: checks; unix:///var/run/docker.sock
	Interval    time.Duration // between two checks; 2s. It is 250ms at most while rise or fall is being counted
	Timeout     time.Duration // of one check; 1s
	Rise        int           // passes in a row until it is announced; 2
	Fall        int           // failures in a row until it is withdrawn; 3
	StartPeriod time.Duration // before the first pass, failures don't count that long; 30s, negative: they count

	// What the metadata say beside the address.
	Weight int    // share of the requests beside the others, to 65535; 100, negative: no share
	Zone   string //
	Host   string // the name of the machine
	Tags   []string
	Labels map[string]string
	Routes []string // see [catalog.ParseRoute]

	// Keep leaves the announcement to the next process instead of withdrawing,
	// where the Lease can (a method Keep). Not with App, which ends too.
	Keep  bool
	Drain time.Duration // from leaving to the end of the app; 5s, negative: none

	// App is the announced app, not yet started. [Sidekick.Run] starts it, in a
	// process group of its own, and both end together. Nil: somebody else runs it.
	App         *exec.Cmd
	StopTimeout time.Duration // from SIGTERM to SIGKILL of App; 10s, negative: SIGKILL at once

	Source string // where the app was configured, FILE:LINE, for errors

	Lease Lease
	TTL   time.Duration // in which the Lease comes round at least once, see [Sidekick.Stuck]; 15s
	Log   *slog.Logger  // nil: no log

	// Notify, if it is set, is called after each change of the Status, one call
	// at a time. Run waits for it.
	Notify func(Status)

	children *children // of the whole process; nil: this sidekick is alone in it
}

// withDefaults returns c with every default in its place; what was negative
// for none is zero.
func (c Config) withDefaults() Config {
	c.ID = cmp.Or(c.ID, c.Addr)
	c.Prefix = "/" + strings.Trim(cmp.Or(c.Prefix, catalog.DefaultPrefix), "/")
	if len(c.Checks) == 0 {
		c.Checks = []string{"tcp:"}
	}
	c.DockerHost = cmp.Or(c.DockerHost, defaultDockerHost)
	c.TTL = cmp.Or(c.TTL, 15*time.Second)
	c.Interval = cmp.Or(c.Interval, 2*time.Second)
	c.Timeout = cmp.Or(c.Timeout, time.Second)
	c.Rise = cmp.Or(c.Rise, 2)
	c.Fall = cmp.Or(c.Fall, 3)
	c.StartPeriod = max(0, cmp.Or(c.StartPeriod, 30*time.Second))
	c.Drain = max(0, cmp.Or(c.Drain, 5*time.Second))
	c.StopTimeout = max(0, cmp.Or(c.StopTimeout, 10*time.Second))
	c.Weight = max(0, cmp.Or(c.Weight, catalog.DefaultWeight))
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// maxMetadata bounds what one announcement puts into the store, in bytes.
const maxMetadata = 64 << 10

// check returns one error for all that is wrong with c but for its lease, and
// its checks.
func (c Config) check(at scene) (checks []check, err error) {
	var errs []error
	wrong := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	wrong(checkSegment("service", c.Service))
	wrong(checkAddr(c.Addr))
	if c.Addr != c.ID {
		wrong(checkSegment("id", c.ID))
	}
	if c.Prefix == "/" {
		wrong(errors.New(`prefix "/": want a path such as /services`))
	}
	checks, err = parseChecks(c.Checks, at)
	wrong(err)
	if c.Interval < 0 || c.Timeout < 0 || c.Rise < 0 || c.Fall < 0 {
		wrong(errors.New("interval, timeout, rise and fall: want none that is negative"))
	}
	if c.Weight > 65535 {
		wrong(fmt.Errorf("weight %d: want 0 to 65535", c.Weight))
	}
	for _, r := range c.Routes {
		_, err := catalog.ParseRoute(r)
		wrong(err)
	}
	if n := len(c.announcement().Metadata()); n > maxMetadata {
		wrong(fmt.Errorf("metadata: got %d bytes: want %d at most: fewer tags, labels or routes", n, maxMetadata))
	}
	if c.Keep && c.App != nil {
		wrong(errors.New("keep: want no app, as the next process can't have the one that ends"))
	}
	return checks, errors.Join(errs...)
}

// Wrong is one error for all that is wrong with c but for its lease, nil where
// nothing is.
func (c Config) Wrong() error {
	c = c.withDefaults()
	_, err := c.check(scene{addr: c.Addr, docker: c.DockerHost})
	return err
}

// checkLease reports whether c can be announced under its lease.
func (c Config) checkLease() error {
	if c.Lease == nil {
		return errors.New("no lease to announce under")
	}
	if _, ok := c.Lease.(keeping); c.Keep && !ok {
		return errors.New("keep: want a lease that can be kept")
	}
	return nil
}

// checkAddr reports whether others can reach addr, as far as one can see.
func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		hint := ""
		if i := strings.LastIndex(addr, ":"); i > 0 && addr[0] != '[' && strings.Contains(addr[:i], ":") {
			hint = fmt.Sprintf("; an IPv6 address stands in brackets, as in [%s]%s", addr[:i], addr[i:])
		}
		return fmt.Errorf("addr %q: want HOST:PORT, where others reach the app%s", addr, hint)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return fmt.Errorf("addr %q: want a host too: the address or name of this machine that others reach the app at, such as 10.0.0.5:%s", addr, port)
	}
	return catalog.CheckAddr(addr)
}

// checkSegment reports whether text can be one segment of a key.
func checkSegment(what, text string) error {
	bad := func(r rune) bool { return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) }
	if text == "" || len(text) > 255 || !utf8.ValidString(text) || strings.ContainsFunc(text, bad) {
		return fmt.Errorf("%s %q: want 1 to 255 bytes without a slash or a space", what, text)
	}
	return nil
}

// announcement is what the metadata say while the app is up.
func (c Config) announcement() catalog.Announcement {
	return catalog.Announcement{
		Addr: c.Addr, Weight: c.Weight, Zone: c.Zone, Tags: c.Tags, Labels: c.Labels, Routes: c.Routes,
		Health: c.declared(), State: catalog.Up, Host: c.Host,
	}
}

// declared is how a balancer can probe the app: as the first http: check does
// that it can make too, or else tcp:. The others can't be made from outside.
func (c Config) declared() *catalog.Health {
	h := catalog.Health{
		Interval: catalog.Duration(c.Interval), Timeout: catalog.Duration(c.Timeout),
		Rise: c.Rise, Fall: c.Fall,
	}
	for _, spec := range c.Checks {
		if path, ok := declaredPath(spec); ok {
			h.HTTP = path
			return &h
		}
	}
	if slices.Contains(c.Checks, "tcp:") {
		h.TCP = true
		return &h
	}
	return nil
}
