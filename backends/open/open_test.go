package open

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"muster/backends/vault"
)

func TestURL(t *testing.T) {
	for url, want := range map[string]string{
		"etcd://127.0.0.1:2379":        "*etcd.Store",
		"etcds://a,b:2380":             "*etcd.Store",
		"etcd://u:p@127.0.0.1,[::1]:1": "*etcd.Store",
		"consul://127.0.0.1,b:8501":    "*consul.Store",
		"consuls://u:p@a?dc=east":      "*consul.Store",
		"vault://u:p@127.0.0.1":        "*vault.Store",
		"vaults://a,b:1?auth=cert":     "*vault.Store",
		"redis://127.0.0.1/3":          "*redis.Store",
		"rancher://a:81/latest":        "*rancher.Store",
		"zks://a,b:2182/muster":        "*zookeeper.Store",
		"zk://a,b:2182/muster":         "*zookeeper.Store",
		"rediss://:p@a,b:6380":         "*redis.Store",
		"dynamodb:keys?interval=1m":    "*dynamodb.Store",
		"ssm:?region=eu-west-1":        "*ssm.Store",
		"secretsmanager:?flatten=no":   "*secretsmanager.Store",
		"acm:":                         "*acm.Store",
		"imds:?interval=1m":            "*imds.Store",
		"docker:/run/docker.sock":      "*docker.Store",
		"file:/etc/x.yaml":             "*file.Store",
		"env:":                         "*env.Store",
	} {
		s, err := URL(url, nil)
		if got := fmt.Sprintf("%T", s); err != nil || got != want {
			t.Errorf("URL(%q): got %s, %v, want %s", url, got, err, want)
			continue
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close(%q): %v", url, err)
		}
	}
}

func TestURLSaysWhatIsWrong(t *testing.T) {
	for url, want := range map[string]string{
		"ectd://127.0.0.1:2379":     "did you mean etcd:? want etcd://HOST:PORT",
		"127.0.0.1:2379":            "want etcd://HOST:PORT",
		"/etc/x.yaml":               "want etcd://HOST:PORT",
		"file:":                     "want file:PATH",
		"etcd://127.0.0.1/services": "-prefix",
	} {
		s, err := URL(url, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("URL(%q) = %v, %v, want an error with %q", url, s, err, want)
		}
	}
	if _, err := URL("ectd://u:hunter2@h", nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
	if _, err := URL("none", nil); !errors.Is(err, ErrNone) {
		t.Errorf(`URL("none"): got %v, want ErrNone`, err)
	}
	if _, err := URL("ldap://a", nil); !errors.Is(err, ErrScheme) {
		t.Errorf("URL of an unknown scheme: got %v, want ErrScheme", err)
	}
}

func TestConfd(t *testing.T) {
	for _, c := range []struct {
		config ConfdConfig
		want   string // of the error, empty for none
	}{
		{ConfdConfig{Backend: "etcd", Nodes: []string{"http://127.0.0.1:4001"}}, ""},
		{ConfdConfig{Backend: "etcdv3", Nodes: []string{"127.0.0.1:2379"}}, ""},
		{ConfdConfig{Backend: "env"}, ""},
		{ConfdConfig{Backend: "file"}, ""},
		{ConfdConfig{Backend: "docker"}, ""},
		{ConfdConfig{Backend: "docker", Nodes: []string{"unix:///run/docker.sock"}}, ""},
		{ConfdConfig{Backend: "docker", Nodes: []string{"unix:///a", "unix:///b"}}, "docker has one engine"},
		{ConfdConfig{}, "no available endpoints"},
		{ConfdConfig{Backend: "etcd", Nodes: []string{"a"}, CAKeys: "/no/such.pem"}, "open /no/such.pem: no such file or directory"},
		{ConfdConfig{Backend: "redis", Nodes: []string{"127.0.0.1:6379/4"}, Key: "password"}, ""},
		{ConfdConfig{Backend: "redis", Nodes: []string{"127.0.0.1:6379/x"}}, `database "x": want a number`},
		{ConfdConfig{Backend: "zookeeper", Nodes: []string{"127.0.0.1:2181", "b"}}, ""},
		{ConfdConfig{Backend: "dynamodb", Table: "keys"}, ""},
		{ConfdConfig{Backend: "ssm"}, ""},
		{ConfdConfig{Backend: "secretsmanager"}, ""},
		{ConfdConfig{Backend: "acm"}, ""},
		{ConfdConfig{Backend: "imds"}, ""},
		{ConfdConfig{Backend: "dynamodb"}, "want the name of a table"},
		{ConfdConfig{Backend: "consul", Scheme: "http", Nodes: []string{"127.0.0.1:8500"}}, ""},
		{ConfdConfig{Backend: "consul", Scheme: "ftp"}, `scheme "ftp": want http or https`},
		{ConfdConfig{Backend: "vault", Auth: vault.Auth{Type: "token", Token: "t"}, Nodes: []string{"http://127.0.0.1:8200"}}, ""},
		{ConfdConfig{Backend: "vault", Auth: vault.Auth{Type: "app-role", RoleID: "r"}}, "secret-id is missing from configuration"},
		{ConfdConfig{Backend: "rancher"}, ""},
		{ConfdConfig{Backend: "rancher", Nodes: []string{"https://h"}}, "plain HTTP"},
		{ConfdConfig{Backend: "Etcd"}, "Invalid backend"},
	} {
		s, err := Confd(c.config)
		switch {
		case c.want == "" && err == nil:
			s.Close()
		case c.want == "":
			t.Errorf("%+v: %v", c.config, err)
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%+v: got %v, want an error with %q", c.config, err, c.want)
		}
	}
}
