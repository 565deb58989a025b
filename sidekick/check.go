package sidekick

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// A check asks the app once. It returns when ctx ends.
type check struct {
	spec string
	run  func(ctx context.Context) error
}

// A scene is what checks need beside their spec.
type scene struct {
	addr     string // of the app
	docker   string // the engine's socket
	children *children
	beats    *beats
}

const defaultDockerHost = "unix:///var/run/docker.sock"

// accepted is what a spec can be, for those who wrote another.
const accepted = "tcp:, http:/PATH or https:/PATH [status=200-399] [body=TEXT] [host=NAME] [tls=verify], " +
	"grpc:[SERVICE], exec:COMMAND, heartbeat:TIME, systemd:UNIT, docker:CONTAINER or none"

// CheckSpecs returns one error for all that is wrong with specs, as they are in
// [Config].
func CheckSpecs(specs []string) error {
	_, err := parseChecks(specs, scene{addr: "127.0.0.1:1", docker: defaultDockerHost})
	return err
}

func parseChecks(specs []string, at scene) (checks []check, err error) {
	switch {
	case slices.Equal(specs, []string{"none"}):
		return nil, nil
	case slices.Contains(specs, "none"):
		return nil, errors.New(`check "none": want it alone`)
	}
	var errs []error
	for _, spec := range specs {
		parsed, err := parseCheck(spec, at)
		errs = append(errs, err)
		checks = append(checks, parsed)
	}
	return checks, errors.Join(errs...)
}

// parseCheck reads the spec of a check.
func parseCheck(spec string, at scene) (check, error) {
	run, err := parseSpec(spec, at)
	if err != nil {
		return check{}, fmt.Errorf("check %q: %w", spec, err)
	}
	return check{spec, run}, nil
}

func parseSpec(spec string, at scene) (run func(context.Context) error, err error) {
	kind, rest, _ := strings.Cut(spec, ":")
	switch {
	case spec == "tcp:":
		return func(ctx context.Context) error { return checkTCP(ctx, at.addr) }, nil
	case strings.HasPrefix(spec, "http:"), strings.HasPrefix(spec, "https:"):
		return parseHTTP(kind, rest, at.addr)
	case strings.HasPrefix(spec, "grpc:"):
		return parseGRPC(rest, at.addr)
	case kind == "exec" && strings.TrimSpace(rest) != "":
		return func(ctx context.Context) error { return at.children.checkExec(ctx, rest) }, nil
	case strings.HasPrefix(spec, "heartbeat:"):
		return parseHeartbeat(rest, at.beats)
	case kind == "systemd" && rest != "":
		return parseSystemd(rest, at.children)
	case kind == "docker" && rest != "":
		return parseDocker(rest, at.docker)
	}
	return nil, errors.New("want " + accepted)
}

func checkTCP(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// A result is what a check said.
type result struct {
	spec string
	err  error // nil: it passed
	at   time.Time
	took time.Duration
}

// runChecks asks all of them at the same time. The error is that of the first
// that fails, in their order, and names it.
func runChecks(ctx context.Context, checks []check, timeout time.Duration) ([]result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	results := make([]result, len(checks))
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			began := time.Now()
			err := c.run(ctx)
			results[i] = result{spec: c.spec, at: began, took: time.Since(began)}
			if err == nil {
				return
			}
			if said, late := errors.AsType[*lateError](err); late {
				err = fmt.Errorf("%w%s", context.Cause(ctx), said.output)
			} else if errors.Is(err, context.DeadlineExceeded) {
				err = context.Cause(ctx)
			}
			results[i].err = err
			errs[i] = fmt.Errorf("check %q: %w", c.spec, err)
		})
	}
	wg.Wait()
	return results, cmp.Or(errs...)
}
