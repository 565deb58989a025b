package template

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const (
	maxOutput = 64 << 10 // of a command's output this much is told, its end

	// farewell is how long a command may go on once the engine is told to stop,
	// and after SIGTERM until SIGKILL.
	farewell = 5 * time.Second
)

// A CommandError is how a check_cmd or reload_cmd failed.
type CommandError struct {
	Key    string // "check_cmd" or "reload_cmd"
	Output string // both streams
	Err    error
}

func (e *CommandError) Error() string {
	if e.Output == "" {
		return e.Key + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s: %v: %q", e.Key, e.Err, e.Output)
}

func (e *CommandError) Unwrap() error { return e.Err }

// command runs line in the shell, in a process group of its own.
func (e *Engine) command(ctx context.Context, r *Resource, key, line string, limit time.Duration, stage string) error {
	line = expand(line, stage, r.Dest)
	e.Report(Event{What: Running, Resource: r, Key: key, Text: line})
	e.commands.Add(1)
	output, err := run(ctx, line, limit)
	if err != nil {
		return &CommandError{key, output, err}
	}
	e.Report(Event{What: Ran, Resource: r, Key: key, Text: output})
	return nil
}

var field = regexp.MustCompile(`{{-?\s*\.(src|dest)\s*-?}}`)

// expand puts the two paths in. Every other brace stays: the command may have a
// template of its own, as docker's --format.
func expand(line, stage, dest string) string {
	return field.ReplaceAllStringFunc(line, func(s string) string {
		if strings.Contains(s, "src") {
			return stage
		}
		return dest
	})
}

// run runs line for at most limit. Its output goes to a file and not through a
// pipe, so that nobody waits for a daemon that it leaves behind and that still
// holds the other end.
func run(ctx context.Context, line string, limit time.Duration) (output string, err error) {
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if f, err := os.CreateTemp("", "muster-output-"); err == nil {
		os.Remove(f.Name())
		defer f.Close()
		cmd.Stdout, cmd.Stderr = f, f
		defer func() { output = tail(f) }()
	} // else there is nowhere to keep it, and it is lost
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	stopping := ctx.Done()
	for cause := error(nil); ; {
		select {
		case err := <-done:
			return "", errors.Join(cause, err)
		case <-stopping:
			stopping = nil
			timeout.Reset(min(limit, farewell))
		case <-timeout.C:
			sig := syscall.SIGTERM
			if cause != nil {
				sig = syscall.SIGKILL
			}
			cause = fmt.Errorf("ended after %v", limit)
			_ = syscall.Kill(-cmd.Process.Pid, sig)
			timeout.Reset(farewell)
		}
	}
}

// tail returns the end of what was written to f.
func tail(f *os.File) string {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	text := make([]byte, min(size, maxOutput))
	n, _ := f.ReadAt(text, size-int64(len(text)))
	return string(text[:n])
}
