// Command server is a Vault for tests: Vault's own code over files, with the kv
// secrets engine and the logins that confd knows, without the rest. A further
// engine, once, makes credentials for who reads them.
//
//	server -addr HOST:PORT -data FOLDER [-cert FILE -key FILE]
//
// It starts sealed, and asks for a client's certificate but wants none.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	appid "github.com/hashicorp/vault/builtin/credential/app-id"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/credential/github"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/helper/metricsutil"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var (
	engines = map[string]logical.Factory{"kv": kv.Factory, "once": once}
	logins  = map[string]logical.Factory{
		"app-id": appid.Factory, "approle": approle.Factory, "cert": cert.Factory,
		"github": github.Factory, "kubernetes": kubernetes.Factory, "userpass": userpass.Factory,
	}
)

func run(args []string) error {
	flags := flag.NewFlagSet("vault", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8200", "`address` to listen on")
	data := flags.String("data", "", "`folder` of the storage")
	certFile := flags.String("cert", "", "PEM `file`; with it TLS is served")
	keyFile := flags.String("key", "", "PEM `file` of its key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr})
	storage, err := file.NewFileBackend(map[string]string{"path": *data}, log)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, StorageType: "file", Logger: log, DisableMlock: true,
		LogicalBackends: engines, CredentialBackends: logins, BuiltinRegistry: builtin{},
		MetricSink: metricsutil.BlackholeSink(),
	})
	if err != nil {
		return err
	}
	listener := &configutil.Listener{Type: "tcp", Address: *addr}
	server := &http.Server{
		Addr: *addr, ReadHeaderTimeout: 10 * time.Second,
		Handler:   vaulthttp.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: listener}),
		TLSConfig: &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12},
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { server.Close() })
	if *certFile != "" {
		err = server.ListenAndServeTLS(*certFile, *keyFile)
	} else {
		err = server.ListenAndServe()
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// once makes other credentials at each read, as the engines of databases and clouds
// do: creds are leased for 3 seconds, long for an hour.
func once(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	var made atomic.Int64
	creds := &framework.Secret{
		Type:   "creds",
		Fields: map[string]*framework.FieldSchema{"user": {Type: framework.TypeString}},
		Revoke: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
			return nil, nil
		},
	}
	b := &framework.Backend{BackendType: logical.TypeLogical, Secrets: []*framework.Secret{creds}}
	for path, ttl := range map[string]time.Duration{"creds": 3 * time.Second, "long": time.Hour} {
		read := func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
			r := creds.Response(map[string]interface{}{"user": fmt.Sprint("u", made.Add(1))}, nil)
			r.Secret.TTL = ttl
			return r, nil
		}
		b.Paths = append(b.Paths, &framework.Path{
			Pattern:    path,
			Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{Callback: read}},
		})
	}
	return b, b.Setup(ctx, conf)
}

// builtin are the plugins that are inside.
type builtin struct{}

func (builtin) Contains(name string, kind consts.PluginType) bool {
	_, ok := of(kind)[name]
	return ok
}

func (builtin) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, ok := of(kind)[name]
	return func() (interface{}, error) { return factory, nil }, ok
}

func (builtin) Keys(kind consts.PluginType) (names []string) {
	for name := range of(kind) {
		names = append(names, name)
	}
	return names
}

func of(kind consts.PluginType) map[string]logical.Factory {
	switch kind {
	case consts.PluginTypeCredential:
		return logins
	case consts.PluginTypeSecrets:
		return engines
	}
	return nil
}
