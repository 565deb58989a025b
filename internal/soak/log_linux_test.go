package soak_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An accessLog keeps the newest lines of muster's, to say more of a wrong answer.
type accessLog struct {
	mu    sync.Mutex
	lines [20_000]string
	n     int
}

// open returns the path that muster has to write to.
func (l *accessLog) open(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for sc := bufio.NewScanner(f); sc.Scan(); {
			l.mu.Lock()
			l.lines[l.n%len(l.lines)] = sc.Text()
			l.n++
			l.mu.Unlock()
		}
	})
	t.Cleanup(func() { f.Close(); wg.Wait() })
	return path
}

// find waits a moment for the line of a request.
func (l *accessLog) find(id string) string {
	for range 100 {
		l.mu.Lock()
		for _, line := range l.lines {
			if strings.Contains(line, "id="+id+`"`) {
				l.mu.Unlock()
				return line
			}
		}
		l.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
	return "muster logged nothing of it"
}
