package etcd_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/backends/etcd"
)

func TestParseURL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]etcd.Config{
		"etcd://10.0.0.1":      {Nodes: []string{"10.0.0.1"}},
		"etcd://10.0.0.1/":     {Nodes: []string{"10.0.0.1"}},
		"etcd://a:1,b,[::1]:3": {Nodes: []string{"a:1", "b", "[::1]:3"}},
		"etcds://a":            {Nodes: []string{"a"}, TLS: true},
		"etcd://u:p%40ss%3A@a": {Nodes: []string{"a"}, User: "u", Password: "p@ss:"},
		"etcd://u:p:q@a":       {Nodes: []string{"a"}, User: "u", Password: "p:q"},
		"etcds://a?ca=/ca.pem&cert=c.pem&key=k%20.pem": {Nodes: []string{"a"}, TLS: true, CA: "/ca.pem", Cert: "c.pem", Key: "k .pem"},
		"etcd://u@a?password=file:" + file:             {Nodes: []string{"a"}, User: "u", Password: "from file"},
	} {
		got, err := etcd.ParseURL(url)
		if err != nil {
			t.Errorf("ParseURL(%q): %v", url, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseURL(%q): -want +got\n%s", url, diff)
		}
	}
}

func TestParseURLSaysWhatIsWrong(t *testing.T) {
	for url, want := range map[string]string{
		"":                             `want etcd://HOST:PORT or etcds://HOST:PORT`,
		"10.0.0.1:2379":                `want etcd://HOST:PORT`,
		"consul://a":                   `want etcd://HOST:PORT`,
		"etcd://":                      `node "": want HOST`,
		"etcd://a,,b":                  `node "": want HOST`,
		"etcd://a:x":                   `node "a:x": want HOST`,
		"etcd://a:0":                   `node "a:0": want HOST`,
		"etcd://a:65536":               `node "a:65536": want HOST`,
		"etcd://a b":                   `node "a b": want HOST`,
		"etcd://a/services":            `path "/services": keys are chosen with -prefix`,
		"etcd://a/services?ca=f":       `path "/services": keys are chosen with -prefix`,
		"etcd://a?passwort=file:x":     `unknown parameter "passwort" (did you mean password?)`,
		"etcd://a?timeout=1s":          `unknown parameter "timeout": want ca, cert, key, password`,
		"etcd://a?ca=":                 `parameter ca: want one value`,
		"etcd://a?ca=x&ca=y":           `parameter ca: want one value`,
		"etcd://a?ca=%":                `invalid URL escape`,
		"etcd://@a":                    `want USER:PASSWORD before @`,
		"etcd://:p@a":                  `want USER:PASSWORD before @`,
		"etcd://u%:p@a":                `want USER:PASSWORD before @`,
		"etcd://u@a?password=secret":   `parameter password: want file:PATH`,
		"etcd://a?password=file:x":     `parameter password: want USER@ before the host`,
		"etcd://u:p@a?password=file:x": `parameter password: want USER@ before the host, without a password`,
	} {
		_, err := etcd.ParseURL(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseURL(%q): got %v, want %s", url, err, want)
		}
	}
	_, err := etcd.ParseURL("etcd://user:secret@host/path")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
	if _, err := etcd.ParseURL("etcd://u@a?password=file:/does/not/exist"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing password file: got %v", err)
	}
}

func TestNewSaysAllThatIsWrong(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := etcd.New(etcd.Config{Nodes: []string{"ftp://a", "b:c"}, Cert: "only", Password: "p"})
	for _, want := range []string{
		`node "ftp://a": want scheme http or https`, `node "b:c": want HOST`, "want a client certificate and its key", "a password without a user",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := etcd.New(etcd.Config{CA: bad}); err == nil || !strings.Contains(err.Error(), "no certificate in it") {
		t.Errorf("a CA file without certificates: got %v", err)
	}
	if _, err := etcd.New(etcd.Config{Cert: bad, Key: bad}); err == nil || !strings.Contains(err.Error(), "client certificate") {
		t.Errorf("a bad client certificate: got %v", err)
	}
}

func ExampleParseURL() {
	cfg, err := etcd.ParseURL("etcds://reader:secret@10.0.0.5,10.0.0.6:2380?ca=/etc/etcd/ca.pem")
	fmt.Println(cfg.Nodes, cfg.User, cfg.TLS, cfg.CA, err)

	_, err = etcd.ParseURL("etcd://reader:secret@10.0.0.5/services")
	fmt.Println(err)
	// Output:
	// [10.0.0.5 10.0.0.6:2380] reader true /etc/etcd/ca.pem <nil>
	// store "etcd://reader:…@10.0.0.5/services": path "/services": keys are chosen with -prefix, not in the store's URL
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{
		"etcd://127.0.0.1:2379", "etcds://u:p@[::1]:1,b?ca=x&cert=y&key=z", "etcd://a/b", "etcd://u@h?password=x", "etcd://[::1", "etcd://%zz@",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		if strings.Contains(url, "file") {
			t.Skip("no files")
		}
		cfg, err := etcd.ParseURL(url)
		if err != nil {
			return
		}
		cfg.CA, cfg.Cert, cfg.Key = "", "", ""
		s, err := etcd.New(cfg)
		if err != nil {
			t.Fatalf("ParseURL(%q) accepts what New refuses: %v", url, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
