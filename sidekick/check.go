package sidekick

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A check asks the app once. It returns when ctx ends.
type check struct {
	spec string
	run  func(ctx context.Context) error
}

// parseCheck reads the spec of a check of the app at addr.
func parseCheck(spec, addr string) (check, error) {
	kind, rest, ok := strings.Cut(spec, ":")
	switch {
	case spec == "tcp:":
		return check{spec, func(ctx context.Context) error { return checkTCP(ctx, addr) }}, nil
	case ok && (kind == "http" || kind == "https"):
		if !strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "//") {
			return check{}, fmt.Errorf("check %q: want %s:/PATH, asked of %s", spec, kind, cmp.Or(addr, "the announced address"))
		}
		req, err := http.NewRequest(http.MethodGet, kind+"://"+addr+rest, nil)
		if err != nil {
			return check{}, fmt.Errorf("check %q: %w", spec, err)
		}
		req.Header.Set("User-Agent", "muster-sidekick")
		return check{spec, func(ctx context.Context) error { return checkHTTP(req.WithContext(ctx)) }}, nil
	case kind == "exec" && strings.TrimSpace(rest) != "":
		return check{spec, func(ctx context.Context) error { return checkExec(ctx, rest) }}, nil
	}
	return check{}, fmt.Errorf("check %q: want tcp:, http:/PATH, https:/PATH, exec:COMMAND or none", spec)
}

func checkTCP(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// checkClient makes a new connection each time, as a client that never came
// before would. It does not verify certificates: the check asks whether the app
// answers, it tells it no secret, and at a bare address few could be verified.
var checkClient = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true,
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func checkHTTP(req *http.Request) error {
	resp, err := checkClient.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			return u.Err // the rest of it repeats the check
		}
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("got status %d: want 200 to 399", resp.StatusCode)
	}
	return nil
}

// checkExec runs command by the shell, in a process group of its own, so that
// nothing of it outlives the check.
func checkExec(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	out := &tail{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a process that left the group may hold the pipe
	err := cmd.Run()
	if cmd.Process != nil {
		_ = cmd.Cancel() // what it left in the background
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if said := out.lastLine(); err != nil && said != "" {
		return fmt.Errorf("%w: %q", err, said)
	}
	return err
}

// A tail keeps the last bytes that were written.
type tail struct {
	buf bytes.Buffer
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	t.buf.Next(t.buf.Len() - min(t.buf.Len(), t.max))
	return len(p), nil
}

func (t *tail) lastLine() string {
	text := bytes.TrimSpace(t.buf.Bytes())
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// runChecks asks all of them at the same time. The error is that of the first
// that fails, in their order, and names it.
func runChecks(ctx context.Context, checks []check, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			err := c.run(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				err = context.Cause(ctx)
			}
			if err != nil {
				errs[i] = fmt.Errorf("check %q: %w", c.spec, err)
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}
