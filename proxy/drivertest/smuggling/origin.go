package smuggling

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"muster/internal/proctest"
)

// An origin is a server that says of each request it saw its target and its
// X-Request-Id, and answers with the target in X-Echo.
type origin struct {
	name string
	addr string
	seen func(testing.TB) []request // all requests, once nothing runs any more
}

// A request is what an origin saw of one: its target, or the whole line, and its
// X-Request-Id, which one that refused it may not have come to.
type request struct {
	target, id string
	refused    bool
}

// origins are the servers that messages are sent to, by name.
var origins = map[string]func(testing.TB) *origin{
	"go":      goOrigin,
	"nginx":   nginxOrigin,
	"haproxy": haproxyOrigin,
	"node":    func(t testing.TB) *origin { return nodeOrigin(t, "node") },
	// Node as it was for a long time, and as some still run it.
	"node-lax": func(t testing.TB) *origin { return nodeOrigin(t, "node-lax", "--insecure-http-parser") },
}

func goOrigin(t testing.TB) *origin {
	var mu sync.Mutex
	var seen []request
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, request{r.RequestURI, r.Header.Get("X-Request-Id"), false})
		mu.Unlock()
		w.Header().Set("X-Echo", r.RequestURI)
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "go")
	})}
	srv.ErrorLog = discardLog
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return &origin{"go", l.Addr().String(), func(testing.TB) []request {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}}
}

const nginxConfig = `
daemon off;
master_process off;
pid DIR/nginx.pid;
error_log /dev/null;
events { worker_connections 512; }
http {
	log_format seen '[seen "$request" "$http_x_request_id" $status]';
	access_log /dev/stdout seen;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	keepalive_requests 1000000;
	large_client_header_buffers 4 32k;
	server {
		listen ADDR;
		location / {
			add_header X-Echo $request_uri always;
			return 200 "nginx";
		}
	}
}
`

func nginxOrigin(t testing.TB) *origin {
	path := proctest.Need(t, "nginx")
	dir, addr := t.TempDir(), proctest.FreeAddr(t)
	file := write(t, filepath.Join(dir, "nginx.conf"), strings.NewReplacer("DIR", dir, "ADDR", addr).Replace(nginxConfig))
	return child(t, "nginx", addr, path, "-p", dir, "-c", file)
}

const haproxyConfig = `
global
	log stdout format raw daemon
	tune.bufsize 65536
defaults
	mode http
	timeout client 10s
	timeout server 10s
	timeout connect 1s
	log global
	option http-keep-alive
	no option dontlognull
frontend origin
	bind ADDR
	http-request capture req.hdr(X-Request-Id) len 64
	log-format "[seen %{+Q}HU %[capture.req.hdr(0)]]"
	http-request return status 200 content-type text/plain string haproxy hdr X-Echo %[url]
`

func haproxyOrigin(t testing.TB) *origin {
	path := proctest.Need(t, "haproxy")
	dir, addr := t.TempDir(), proctest.FreeAddr(t)
	file := write(t, filepath.Join(dir, "haproxy.cfg"), strings.ReplaceAll(haproxyConfig, "ADDR", addr))
	return child(t, "haproxy", addr, path, "-db", "-f", file)
}

const nodeScript = `
const http = require('http')
const [host, port] = process.argv[2].split(':')
const server = http.createServer((req, res) => {
	console.log('[seen ' + JSON.stringify(req.url) + ' ' + JSON.stringify(req.headers['x-request-id'] || '') + ']')
	req.resume()
	req.on('error', () => {})
	req.on('end', () => {
		res.setHeader('X-Echo', encodeURI(req.url).replace(/%25/g, '%'))
		res.end('node')
	})
})
server.keepAliveTimeout = 0
server.listen(port, host)
`

func nodeOrigin(t testing.TB, name string, flags ...string) *origin {
	path := proctest.Need(t, "node")
	dir, addr := t.TempDir(), proctest.FreeAddr(t)
	file := write(t, filepath.Join(dir, "origin.js"), nodeScript)
	return child(t, name, addr, path, append(flags, file, addr)...)
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

var seenLine = regexp.MustCompile(`^\[seen "([^"]*)" "?([^" ]*)"?( 400)?[^"]*\]$`)

// child is an origin in a process of its own, which says on its output what it
// saw.
func child(t testing.TB, name, addr, path string, args ...string) *origin {
	t.Helper()
	p := proctest.Start(t, name, nil, path, args...)
	proctest.Eventually(t, name+" listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return &origin{name, addr, func(t testing.TB) (seen []request) {
		res, err := http.Get("http://" + addr + "/that-is-all")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		p.WaitFor("/that-is-all")
		for line := range strings.Lines(p.Output()) {
			line = strings.TrimSuffix(line, "\n")
			m := seenLine.FindStringSubmatch(line)
			switch {
			case m != nil && m[1] != "<BADREQ>": // HAProxy's word for what is none
				seen = append(seen, request{m[1], m[2], m[3] != ""})
			case m == nil && strings.HasPrefix(line, "[seen"):
				t.Errorf("%s says %q", name, line)
			}
		}
		return seen
	}}
}
