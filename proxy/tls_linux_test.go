package proxy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/catalog"
	"muster/proxy"
)

// authority is the file of certificates that a process of TestHTTPSEndpoint
// trusts: Go reads those of the system once.
const authority = "SSL_CERT_FILE"

// Requests to an endpoint that is announced as https go over TLS, which names the
// endpoint's host and trusts only who can prove it: with bodies, on one
// connection, as long as it is good, and after an upgrade.
func TestHTTPSEndpoint(t *testing.T) {
	const child = "MUSTER_TEST_HTTPS_DIR"
	if dir := os.Getenv(child); dir != "" {
		for _, host := range []string{"localhost", "127.0.0.1"} {
			t.Run(host, func(t *testing.T) { httpsEndpoint(t, dir, host) })
		}
		return
	}
	dir := t.TempDir()
	certificates(t, dir)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHTTPSEndpoint$", "-test.v")
	cmd.Env = append(os.Environ(), authority+"="+filepath.Join(dir, "ca.pem"), child+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestHTTPSEndpoint/127.0.0.1") {
		t.Errorf("%v\n%s", err, out)
	}
}

// certificates writes an authority, and a certificate and key of this machine.
func certificates(t *testing.T, dir string) {
	write := func(name, kind string, der []byte) {
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	template := func(serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("test ", serial)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	ca, caKey := template(1), key()
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	leaf, leafKey := template(2), key()
	leaf.DNSNames, leaf.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, c := range []struct {
		name string
		cert *x509.Certificate
		key  *ecdsa.PrivateKey
	}{{"ca.pem", ca, caKey}, {"leaf.pem", leaf, leafKey}} {
		der, err := x509.CreateCertificate(rand.Reader, c.cert, ca, &c.key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(c.name, "CERTIFICATE", der)
	}
	der, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	write("leaf.key", "EC PRIVATE KEY", der)
}

func httpsEndpoint(t *testing.T, dir, host string) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "leaf.key"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // guards what follows
	var opened int
	var names []string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		names = append(names, r.TLS.ServerName)
		mu.Unlock()
		w.Header().Set("X-Told", r.Host+" "+r.Header.Get("X-Forwarded-Proto"))
		if r.Header.Get("Upgrade") == "" {
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		rw.Flush()
		io.Copy(c, rw)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			mu.Lock()
			opened++
			mu.Unlock()
		}
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	e := &catalog.Endpoint{Service: "web", ID: "a", Announcement: catalog.Announcement{Addr: net.JoinHostPort(host, port), Proto: "https", Weight: 100, State: catalog.Up}}
	_, addr := start(t, proxy.Config{}, sole(e))

	c := client(t)
	large := bytes.Repeat([]byte("muster! "), 128<<10)
	for _, body := range []struct {
		name string
		r    func() io.Reader
		want []byte
	}{
		{"none", func() io.Reader { return nil }, nil},
		{"short", func() io.Reader { return strings.NewReader("hello") }, []byte("hello")},
		{"1 MiB", func() io.Reader { return bytes.NewReader(large) }, large},
		{"in chunks", func() io.Reader { return io.MultiReader(bytes.NewReader(large)) }, large},
		{"none again", func() io.Reader { return nil }, nil},
	} {
		res, got := do(t, c, "POST", "http://"+addr+"/", body.r())
		if res.StatusCode != 200 || got != string(body.want) || res.Header.Get("X-Told") != addr+" http" {
			t.Errorf("body %s: status %d, told %q, %d bytes back, want 200, the client's host and scheme, and %d", body.name, res.StatusCode, res.Header.Get("X-Told"), len(got), len(body.want))
		}
	}
	mu.Lock()
	if opened != 1 {
		t.Errorf("%d connections to the endpoint, want one", opened)
	}
	sni := host
	if net.ParseIP(host) != nil {
		sni = "" // RFC 6066, section 3: no addresses
	}
	for _, name := range names {
		if name != sni {
			t.Errorf("server name %q, want %q", name, sni)
		}
	}
	mu.Unlock()

	up, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	const early = "behind the handshake"
	io.WriteString(up, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+early)
	go func() {
		io.Copy(up, bytes.NewReader(large))
		up.(*net.TCPConn).CloseWrite()
	}()
	all, err := io.ReadAll(up)
	head, got, _ := bytes.Cut(all, []byte("\r\n\r\n"))
	if err != nil || !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || string(got) != early+string(large) {
		t.Errorf("upgrade: %.40q and %d bytes, %v, want a 101 and %d", head, len(got), err, len(early)+len(large))
	}
}
