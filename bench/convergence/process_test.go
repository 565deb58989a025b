package convergence

import (
	"io"
	"net/http"
	"testing"
	"time"

	"muster/internal/procstat"
)

// memory is what a process has of the machine's memory, in MB, now and at most;
// zero where the system does not tell.
func memory(t *testing.T, pid int) (now, most float64) {
	t.Helper()
	n, m, err := procstat.Memory(pid)
	if err != nil {
		t.Logf("no figures of memory: %v", err)
	}
	return float64(n) / (1 << 20), float64(m) / (1 << 20)
}

// processorTime is what a process has used so far; zero where the system does
// not tell.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	used, err := procstat.CPU(pid)
	if err != nil {
		t.Logf("no figures of the processor: %v", err)
	}
	return used
}

// fetch is the body of a 200 answer.
func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, resp.Status, err)
	}
	return string(body)
}
