package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"muster/internal/testserver"
	"muster/proxy"
)

// childEnv names the endpoint of a proxy that this test binary runs as a
// process of its own.
const childEnv = "MUSTER_TEST_PROXY_ENDPOINT"

// TestChild is the proxy of TestLargeBodies: it prints its address and runs
// until its standard input ends.
func TestChild(t *testing.T) {
	at := os.Getenv(childEnv)
	if at == "" {
		t.Skip("only as a child of TestLargeBodies")
	}
	_, addr := start(t, proxy.Config{}, sole(endpoint("a", at)))
	fmt.Println("listening", addr)
	io.Copy(io.Discard, os.Stdin)
}

// A GiB each way grows the proxy by less than 32 MiB, of which the race detector
// takes most.
func TestLargeBodies(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 2 GiB")
	}
	a := testserver.New(t, "a")
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+a.Addr)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	rest := bufio.NewReader(out)
	defer func() {
		in.Close()
		io.Copy(io.Discard, rest)
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}()
	line, err := rest.ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if !ok || err != nil {
		t.Fatalf("child said %q, %v", line, err)
	}
	c := client(t)
	c.Timeout = 0
	for range 10 { // warm
		get(t, c, "http://"+addr+"/bytes?n=1000000")
	}
	before := peak(t, cmd.Process.Pid)
	const gib = 1 << 30

	res, err := c.Get("http://" + addr + "/bytes?n=" + strconv.Itoa(gib))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != gib || err != nil {
		t.Errorf("down: %d bytes, %v, want %d", n, err, gib)
	}
	res.Body.Close()
	down := peak(t, cmd.Process.Pid)

	for _, body := range []io.Reader{io.LimitReader(zeros{}, gib/2), stream{io.LimitReader(zeros{}, gib/2)}} {
		req, _ := http.NewRequest("PUT", "http://"+addr+"/", body)
		if _, ok := body.(stream); !ok {
			req.ContentLength = gib / 2
		}
		if res, err = c.Do(req); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	up := peak(t, cmd.Process.Pid)
	var got int64
	for _, r := range a.Seen() {
		got += r.Body
	}
	if got != gib {
		t.Errorf("up: the origin got %d bytes, want %d", got, gib)
	}
	t.Logf("peak RSS: %d KiB before, %d after 1 GiB down, %d after 1 GiB up", before, down, up)
	if grown := up - before; grown >= 32<<10 {
		t.Errorf("RSS grew by %d KiB, want less than 32 MiB", grown)
	}
}

// peak is the most memory that a process has had, in KiB.
func peak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := bytes.Cut(status, []byte("VmHWM:"))
	fields := bytes.Fields(text)
	n, err := strconv.Atoi(string(fields[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
