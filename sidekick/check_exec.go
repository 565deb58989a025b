package sidekick

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// maxOutput is how much of a command's output goes into the reason, in bytes:
// the last of it.
const maxOutput = 4 << 10

// A lateError says that a command did not end in time, and what it said.
type lateError struct{ output string }

func (e *lateError) Error() string { return "too late" + e.output }

// checkExec runs command by the shell.
func (c *children) checkExec(ctx context.Context, command string) error {
	out, err := c.run(ctx, "sh", "-c", command)
	said := ""
	if len(out) > 0 {
		said = fmt.Sprintf(": %q", out)
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &lateError{said}
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w%s", err, said)
	}
	return nil
}

// run runs a command in a process group of its own, so that nothing of it
// outlives the check, and returns the end of its output.
func (c *children) run(ctx context.Context, name string, args ...string) (output string, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	out := &tail{max: maxOutput}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a process that left the group may hold the pipe
	if err := c.start(cmd); err != nil {
		return "", err
	}
	err = c.wait(cmd)
	_ = cmd.Cancel() // what it left in the background
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well; only the pipe was held
	}
	return out.String(), err
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

// String is what is kept, without the space around it and the character that
// was cut in two.
func (t *tail) String() string {
	return strings.TrimSpace(strings.TrimLeft(strings.ToValidUTF8(t.buf.String(), "\uFFFD"), "\uFFFD"))
}
