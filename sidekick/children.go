package sidekick

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// children are the processes that the sidekick started and waits for. Where it
// is process 1, every orphan becomes its child too, and stays a zombie until
// somebody waits for it: reap does, for all but these.
type children struct {
	mu   sync.Mutex // held from before a start until it is noted
	pids map[int]bool
}

func newChildren() *children { return &children{pids: make(map[int]bool)} }

func (c *children) start(cmd *exec.Cmd) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	c.pids[cmd.Process.Pid] = true
	return nil
}

func (c *children) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	c.mu.Lock()
	delete(c.pids, cmd.Process.Pid)
	c.mu.Unlock()
	c.reap() // those that stood behind it
	return err
}

// Reap waits for the orphans that have ended, where the process is number 1.
// Call it on SIGCHLD.
func (s *Sidekick) Reap() { s.children.reap() }

func (c *children) reap() {
	if os.Getpid() != 1 {
		return
	}
	for c.reapOne() {
	}
}

// reapOne reports whether there may be another one. It ends at a child of ours:
// whoever waits for that one reaps the rest.
func (c *children) reapOne() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid := endedChild()
	if pid <= 0 || c.pids[pid] {
		return false
	}
	got, _ := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return got == pid
}
