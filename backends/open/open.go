// Package open opens a store by name: by URL, as muster's -store has it, or by
// what confd's options say. It is the one place that knows every store.
package open

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"muster/backends"
	"muster/backends/acm"
	"muster/backends/consul"
	"muster/backends/docker"
	"muster/backends/dynamodb"
	"muster/backends/env"
	"muster/backends/etcd"
	"muster/backends/file"
	"muster/backends/imds"
	"muster/backends/rancher"
	"muster/backends/redis"
	"muster/backends/secretsmanager"
	"muster/backends/ssm"
	"muster/backends/vault"
	"muster/backends/zookeeper"
	"muster/internal/awsstore"
	"muster/internal/near"
	"muster/internal/storeaddr"
)

// ErrNone is what URL returns for "none": the user wants no store at all.
var ErrNone = errors.New("no store")

// ErrScheme is why a URL names no store: a wrong argument, not a store that is
// away.
var ErrScheme = errors.New("unknown store")

// ErrBackend is why Confd opens no store of that name; the words are confd's.
//
//lint:ignore ST1005 scripts know confd's words
var ErrBackend = errors.New("Invalid backend")

var schemes = []string{"etcd", "etcds", "consul", "consuls", "vault", "vaults", "redis", "rediss", "zk", "zks", "dynamodb", "ssm", "secretsmanager", "acm", "imds", "rancher", "docker", "file", "env", "none"}

// URL opens the store that rawurl names: etcd://HOST:PORT,…, etcds://… (TLS),
// consul://HOST:PORT,…, consuls://… (TLS), vault://HOST:PORT,…, vaults://… (TLS),
// redis://HOST:PORT,…, rediss://… (TLS), zk://HOST:PORT,…, zks://… (TLS),
// dynamodb:TABLE, ssm:, secretsmanager:, acm:, imds:, rancher://HOST/VERSION, docker:, file:PATH or env:. Keys belong to a prefix by whole elements. log may be nil.
func URL(rawurl string, log *slog.Logger) (backends.Store, error) {
	scheme, _, ok := strings.Cut(rawurl, ":")
	switch {
	case rawurl == "none" || rawurl == "none:":
		return nil, ErrNone
	case rawurl == "env" || rawurl == "env:":
		return env.New(env.Config{Environ: os.Environ}), nil
	case ok && (scheme == "etcd" || scheme == "etcds"):
		return etcd.Open(rawurl, log)
	case ok && (scheme == "consul" || scheme == "consuls"):
		return consul.Open(rawurl, log)
	case ok && (scheme == "vault" || scheme == "vaults"):
		return vault.Open(rawurl, log)
	case ok && (scheme == "redis" || scheme == "rediss"):
		return redis.Open(rawurl, log)
	case ok && (scheme == "zk" || scheme == "zks"):
		return zookeeper.Open(rawurl, log)
	case ok && scheme == "dynamodb":
		return dynamodb.Open(rawurl, log)
	case ok && scheme == "ssm":
		return ssm.Open(rawurl, log)
	case ok && scheme == "secretsmanager":
		return secretsmanager.Open(rawurl, log)
	case ok && scheme == "acm":
		return acm.Open(rawurl, log)
	case ok && scheme == "imds":
		return imds.Open(rawurl, log)
	case ok && scheme == "rancher":
		return rancher.Open(rawurl)
	case ok && scheme == "docker":
		return docker.Open(rawurl, os.Getenv, log)
	case ok && scheme == "file":
		return file.Open(rawurl)
	}
	shown := rawurl
	if strings.Contains(rawurl, "@") {
		shown = scheme + ":…" // there may be a password in it
	}
	return nil, fmt.Errorf("%w %q: %s", ErrScheme, shown, hint(scheme, ok))
}

func hint(scheme string, isURL bool) string {
	want := "want etcd://HOST:PORT, etcds://HOST:PORT, consul://HOST:PORT, consuls://HOST:PORT, vault://HOST:PORT, vaults://HOST:PORT, redis://HOST:PORT, rediss://HOST:PORT, zk://HOST:PORT, zks://HOST:PORT, dynamodb:TABLE, ssm:, secretsmanager:, acm:, imds:, rancher://HOST/VERSION, docker:, file:PATH, env: or none"
	if !isURL {
		return want
	}
	if miss := near.Miss(scheme, schemes); miss != "" && miss != scheme {
		return fmt.Sprintf("did you mean %s:? %s", miss, want)
	}
	return want
}

// ConfdConfig are the options of confd that say which store to open.
type ConfdConfig struct {
	Backend string // confd's name of it: etcd, etcdv3, file, env, …
	Nodes   []string

	Files  []string // of file
	Filter string

	Scheme             string // of consul: http or https
	Username, Password string // empty: none is sent
	CAKeys, Cert, Key  string // PEM files, but Key is the password of redis
	Separator          string // of redis
	Auth               vault.Auth
	Log                *slog.Logger

	// Interval is the time between two reads of a watch, where the store tells of no
	// changes; 0: the store's own.
	Interval time.Duration

	// Of the stores of AWS.
	Endpoint string // empty: as the SDK finds it
	Table    string // of dynamodb

	VersionStage string // of secretsmanager; empty: AWSCURRENT
	NoFlatten    bool   // of secretsmanager: JSON stays one value
	Passphrase   string // of acm: private keys are exported with it; empty: none is
}

// Confd opens the store that c names. Where confd lets keys belong to a prefix by
// string and not by element, so does this.
func Confd(c ConfdConfig) (backends.Store, error) {
	switch c.Backend {
	case "", "etcd", "etcdv3":
		if len(c.Nodes) == 0 {
			return nil, errors.New("etcdclient: no available endpoints")
		}
		return etcd.New(etcd.Config{
			Nodes: c.Nodes, CA: c.CAKeys, Cert: c.Cert, Key: c.Key,
			User: c.Username, Password: c.Password, Log: c.Log,
		})
	case "consul":
		if c.Scheme != "http" && c.Scheme != "https" {
			return nil, fmt.Errorf("scheme %q: want http or https", c.Scheme)
		}
		return consul.New(consul.Config{
			Nodes: c.Nodes, TLS: c.Scheme == "https", Files: storeaddr.TLS{CA: c.CAKeys, Cert: c.Cert, Key: c.Key},
			User: c.Username, Password: c.Password, Match: backends.HasPrefix, Log: c.Log,
		})
	case "vault":
		return vault.New(vault.Config{
			Nodes: c.Nodes, TLS: c.CAKeys != "" || c.Cert != "", Files: storeaddr.TLS{CA: c.CAKeys, Cert: c.Cert, Key: c.Key},
			Auth: c.Auth, Interval: c.Interval, Log: c.Log,
		})
	case "redis":
		return redis.New(redis.Config{
			Nodes: c.Nodes, Password: c.Key, Files: storeaddr.TLS{CA: c.CAKeys}, Separator: c.Separator, Log: c.Log,
		})
	case "zookeeper":
		return zookeeper.New(zookeeper.Config{
			Nodes: c.Nodes, Files: storeaddr.TLS{CA: c.CAKeys, Cert: c.Cert, Key: c.Key}, Log: c.Log,
		})
	case "dynamodb":
		return dynamodb.New(dynamodb.Config{Config: c.aws(), Table: c.Table})
	case "ssm":
		return ssm.New(c.aws()), nil
	case "secretsmanager":
		return secretsmanager.New(secretsmanager.Config{Config: c.aws(), Stage: c.VersionStage, Whole: c.NoFlatten}), nil
	case "acm":
		return acm.New(acm.Config{Config: c.aws(), Passphrase: c.Passphrase}), nil
	case "imds":
		return imds.New(c.aws()), nil
	case "docker":
		if len(c.Nodes) > 1 {
			return nil, fmt.Errorf("docker has one engine: got the nodes %s", strings.Join(c.Nodes, ", "))
		}
		return docker.Open(strings.Join(append(c.Nodes, "docker:")[:1], ""), os.Getenv, c.Log)
	case "rancher":
		return rancher.New(rancher.Config{Nodes: c.Nodes})
	case "file":
		return file.New(file.Config{Paths: c.Files, Filter: c.Filter, Match: backends.HasPrefix}), nil
	case "env":
		return env.New(env.Config{Environ: os.Environ, Match: backends.HasPrefix}), nil
	}
	return nil, ErrBackend
}

func (c *ConfdConfig) aws() awsstore.Config {
	return awsstore.Config{Endpoint: c.Endpoint, Interval: c.Interval, Log: c.Log}
}
