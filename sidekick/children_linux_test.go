package sidekick

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Who is process 1 of a namespace: this test, once more.
func TestReapLeavesWhoIsWaitedFor(t *testing.T) {
	if os.Getpid() != 1 {
		if os.Geteuid() != 0 {
			t.Skip("needs root, for a namespace")
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestReapLeavesWhoIsWaitedFor$", "-test.v")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("as process 1: %v\n%s", err, out)
		}
		return
	}
	c := newChildren()
	ours := exec.Command("sh", "-c", "exit 3")
	if err := c.start(ours); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "its end", func() bool { return endedChild() == ours.Process.Pid })
	other := exec.Command("true") // nobody has noted it, as with an orphan
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	c.reap()
	if err := c.wait(ours); ours.ProcessState == nil || ours.ProcessState.ExitCode() != 3 {
		t.Errorf("wait: got %v: want exit code 3", err)
	}
	waitFor(t, "the end of the other", func() bool { c.reap(); return syscall.Kill(other.Process.Pid, 0) == syscall.ESRCH })
}
