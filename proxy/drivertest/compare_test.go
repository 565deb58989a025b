package drivertest_test

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"muster/internal/proctest"
	"muster/proxy/drivertest"
)

var peers = flag.Bool("peers", false, "play the cases to nginx and HAProxy, and print what they make of them")

const nginxFile = `daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 100; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	upstream web { server %[3]s; keepalive 16; }
	map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
	server {
		listen %[2]s;
		large_client_header_buffers 8 32k; client_max_body_size 0; proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
		proxy_buffering off; proxy_request_buffering off;
		location / {
			proxy_pass http://web; proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
			proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
		}
	}
}
`

const haproxyFile = `global
	nbthread 1
	maxconn 100
	tune.bufsize 65536
defaults
	mode http
	option forwardfor
	option http-no-delay
	http-reuse always
	timeout connect 1s
	timeout client 30s
	timeout server 30s
frontend in
	bind %s
	default_backend web
backend web
	server s %s
`

// Others are held to the cases too, where those are no matter of settings, to
// see that the cases ask for what servers do.
func TestPeers(t *testing.T) {
	if !*peers {
		t.Skip("only with -args -peers")
	}
	run := func(program, config string, args ...string) func(testing.TB, string) (string, func(), error) {
		path := proctest.Need(t, program)
		return func(t testing.TB, origin string) (string, func(), error) {
			dir, addr := t.TempDir(), proctest.FreeAddr(t)
			dir = filepath.Join(dir, addr)
			if err := os.Mkdir(dir, 0o755); err != nil {
				return "", nil, err
			}
			file := filepath.Join(dir, "conf")
			text := fmt.Sprintf(config, addr, origin)
			if program == "nginx" {
				text = fmt.Sprintf(config, dir, addr, origin)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				return "", nil, err
			}
			p := proctest.Start(t, program, nil, path, append(args, file)...)
			proctest.Eventually(t, program+" listens", func() bool {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					c.Close()
				}
				return err == nil
			})
			return addr, func() {
				p.Signal(syscall.SIGKILL)
				p.Wait()
			}, nil
		}
	}
	for name, start := range map[string]func(testing.TB, string) (string, func(), error){
		"nginx": run("nginx", nginxFile, "-c"), "haproxy": run("haproxy", haproxyFile, "-db", "-q", "-f"),
	} {
		t.Run(name, func(t *testing.T) {
			held, of := make(map[string]int), make(map[string]int)
			var sum int
			all := drivertest.Compare(t, 4, start)
			for _, v := range all {
				folder, _, _ := strings.Cut(v.Name, "/")
				if of[folder]++; v.Err == nil {
					held[folder]++
					sum++
				} else {
					t.Logf("%s: %.300v", v.Name, v.Err)
				}
			}
			for folder, n := range of {
				t.Logf("%-16s %3d of %3d", folder, held[folder], n)
			}
			t.Logf("%-16s %3d of %3d", "all", sum, len(all))
			if sum < len(all)/3 {
				t.Errorf("%s does as less than a third of the cases want: what is wrong with them?", name)
			}
		})
	}
}
