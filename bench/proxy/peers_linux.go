package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"muster/internal/freeport"
)

// A peer is a proxy that can be measured. Its command serves HTTP on an address to
// backends, with a folder for its files.
type peer struct {
	name    string
	command func(dir, listen string, backends []string) ([]string, error)
}

// peers are all of them, ours first. self is this program; muster is ours, built.
func peers(self, muster string) []peer {
	own := func(name string) peer {
		return peer{name, func(_, listen string, backends []string) ([]string, error) {
			return append([]string{self, "-serve", name, listen}, backends...), nil
		}}
	}
	return []peer{
		{"muster", func(dir, listen string, backends []string) ([]string, error) {
			file := filepath.Join(dir, "muster.toml")
			return []string{muster, "proxy", "-store", "none", "-config", file, "-default", "web", "-admin", "", "-state", dir, "-log", "warn"},
				write(file, musterFile(listen, backends))
		}},
		{"nginx", func(dir, listen string, backends []string) ([]string, error) {
			file := filepath.Join(dir, "nginx.conf")
			return []string{program("nginx"), "-p", dir, "-c", file}, write(file, nginxFile(dir, listen, backends))
		}},
		{"haproxy", func(dir, listen string, backends []string) ([]string, error) {
			file := filepath.Join(dir, "haproxy.cfg")
			return []string{program("haproxy"), "-db", "-q", "-f", file}, write(file, haproxyFile(listen, backends))
		}},
		own("fasthttp"), own("nethttp"), own("floor"),
	}
}

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

// program finds a server of Debian's, which are not on everybody's PATH.
func program(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}

func musterFile(listen string, backends []string) string {
	return fmt.Sprintf("[[listener]]\nbind = %q\n[log]\naccess = \"off\"\n[service.web]\nendpoints = [\"%s\"]\n", listen, strings.Join(backends, `", "`))
}

func nginxFile(dir, listen string, backends []string) string {
	return fmt.Sprintf(`daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log stderr crit; worker_rlimit_nofile 20000;
events { worker_connections 18000; }
http {
	access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	upstream web { server %[3]s; keepalive 1024; keepalive_requests 1000000000; }
	server {
		listen %[2]s backlog=4096;
		location / {
			proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		}
	}
}
`, dir, listen, strings.Join(backends, "; server "))
}

func haproxyFile(listen string, backends []string) string {
	var servers strings.Builder
	for i, b := range backends {
		fmt.Fprintf(&servers, "\tserver s%d %s\n", i, b)
	}
	return fmt.Sprintf(`global
	nbthread 1
	maxconn 12000
	no strict-limits
defaults
	mode http
	option forwardfor
	http-reuse always
	timeout connect 1s
	timeout client 300s
	timeout server 30s
frontend in
	bind %s backlog 4096
	default_backend web
backend web
	balance roundrobin
%s`, listen, &servers)
}

// A running is a peer's process.
type running struct {
	cmd  *exec.Cmd
	port int
	dir  string
	out  *os.File
}

// start runs a peer on a core and waits until it listens.
func (p peer) start(ctx context.Context, self string, core int, backends []string) (_ *running, err error) {
	dir, err := os.MkdirTemp("", "muster-bench")
	if err != nil {
		return nil, err
	}
	r := &running{dir: dir}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w%s", p.name, err, r.said())
			r.stop()
		}
	}()
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(addr, ":")
	if r.port, err = strconv.Atoi(port); err != nil {
		return nil, err
	}
	args, err := p.command(dir, addr, backends)
	if err != nil {
		return nil, err
	}
	if r.out, err = os.Create(filepath.Join(dir, "out")); err != nil {
		return nil, err
	}
	r.cmd = exec.CommandContext(ctx, self, append([]string{"-pin", strconv.Itoa(core)}, args...)...)
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	for range 1000 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return r, c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("never listened")
}

// said is what it wrote, for an error.
func (r *running) said() string {
	if r.out == nil {
		return ""
	}
	text, _ := os.ReadFile(r.out.Name())
	if len(text) == 0 {
		return ""
	}
	return "; it said\n" + string(text)
}

func (r *running) stop() {
	if r.cmd != nil && r.cmd.Process != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
	if r.out != nil {
		r.out.Close()
	}
	os.RemoveAll(r.dir)
}
