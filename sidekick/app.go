package sidekick

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// An app is the process that the sidekick runs beside itself, and the process
// group it leads.
type app struct {
	cmd      *exec.Cmd
	children *children

	done chan struct{} // closed when it has ended; err is then set
	err  error         // nil: exit code 0

	mu      sync.Mutex // guards started
	started bool
}

// start runs cmd in a process group of its own, so that the terminal's signals
// reach it through the sidekick only. On Linux the kernel ends it when the
// sidekick dies.
func (a *app) start() error {
	if a.cmd.SysProcAttr == nil {
		a.cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	a.cmd.SysProcAttr.Setpgid = true
	dieWithParent(a.cmd.SysProcAttr)
	if a.cmd.WaitDelay == 0 {
		a.cmd.WaitDelay = time.Second // its own children may hold a pipe of ours
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.children.start(a.cmd); err != nil {
		return fmt.Errorf("start %q: %w", a.cmd.Path, err)
	}
	a.started = true
	return nil
}

// wait returns when the process has ended.
func (a *app) wait() {
	err := a.children.wait(a.cmd)
	if state := a.cmd.ProcessState; state != nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
	} else if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well; only a pipe was held
	}
	if err != nil {
		a.err = fmt.Errorf("app %q: %w", a.cmd.Path, err)
	}
	close(a.done)
}

// signal sends sig to the process alone.
func (a *app) signal(sig os.Signal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started {
		_ = a.cmd.Process.Signal(sig) // it may have ended
	}
}

// signalGroup sends sig to the whole group and reports whether there is one.
func (a *app) signalGroup(sig syscall.Signal) bool {
	return syscall.Kill(-a.cmd.Process.Pid, sig) == nil
}

// kill kills the group, the process or what it left.
func (a *app) kill() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started {
		a.signalGroup(syscall.SIGKILL)
	}
}

// stop ends the group: SIGTERM, and SIGKILL to what is left after timeout. It
// returns when the process and its group are gone.
func (a *app) stop(timeout time.Duration) {
	a.signalGroup(syscall.SIGTERM)
	late := time.NewTimer(timeout)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for a.groupLives() {
		select {
		case <-late.C:
			a.signalGroup(syscall.SIGKILL)
			<-a.done
			return
		case <-tick.C:
		}
	}
	<-a.done
}

// groupLives reports whether the process or another one of its group is left.
// Nobody tells when a group ends.
func (a *app) groupLives() bool {
	select {
	case <-a.done:
	default:
		return true // also while it waits for wait
	}
	// Where the sidekick is process 1, orphans of the group are its children.
	for {
		pid, err := syscall.Wait4(-a.cmd.Process.Pid, nil, syscall.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	return a.signalGroup(0)
}
