package confd

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"muster/cmd/internal/cli"
	"muster/template"
)

// options are what confd can be told. A toml name is the key in confd.toml.
type options struct {
	Backend   string   `toml:"backend"`
	Nodes     []string `toml:"nodes"`
	Confdir   string   `toml:"confdir"`
	Onetime   bool     `toml:"onetime"`
	Watch     bool     `toml:"watch"`
	Interval  int      `toml:"interval"`
	Noop      bool     `toml:"noop"`
	SyncOnly  bool     `toml:"sync-only"`
	KeepStage bool     `toml:"keepstagefile"`
	Prefix    string   `toml:"prefix"`
	LogLevel  string   `toml:"log-level"`
	Files     []string `toml:"file"`
	Filter    string   `toml:"filter"`
	SRVDomain string   `toml:"srv_domain"`
	SRVRecord string   `toml:"srv_record"`

	Scheme       string `toml:"scheme"`
	BasicAuth    bool   `toml:"basic_auth"`
	Username     string `toml:"username"`
	Password     string `toml:"password"`
	ClientCAKeys string `toml:"client_cakeys"`
	ClientCert   string `toml:"client_cert"`
	ClientKey    string `toml:"client_key"`
	Insecure     bool   `toml:"client_insecure"`

	AuthToken string `toml:"auth_token"`
	AuthType  string `toml:"auth_type"`
	AppID     string `toml:"app_id"`
	UserID    string `toml:"user_id"`
	RoleID    string `toml:"role_id"`
	SecretID  string `toml:"secret_id"`
	Path      string `toml:"path"`
	Table     string `toml:"table"`
	Separator string `toml:"separator"`

	// Of the fork's stores.
	VersionStage string        `toml:"secretsmanager_version_stage"`
	NoFlatten    bool          `toml:"secretsmanager_no_flatten"`
	ExportKey    bool          `toml:"acm_export_private_key"`
	IMDSCacheTTL time.Duration `toml:"imds_cache_ttl"`

	ConfigFile string `toml:"-"`
	Version    bool   `toml:"-"`

	// Our own: without them all is as in the original.
	Debounce    time.Duration `toml:"-"`
	MetricsAddr string        `toml:"-"`
	Diff        bool          `toml:"-"`

	fork          bool   // the backend was given as a word
	intervalGiven bool   // Interval is not the built-in one
	endpoint      string // of the store; see localEndpoint
	passphrase    string // of acm
}

// builtin are the options when nothing is said.
func builtin() options {
	return options{
		Backend: "etcd", Confdir: "/etc/confd", Interval: 600, Filter: "*", Scheme: "http",
		ConfigFile: "/etc/confd/confd.toml", Debounce: template.DefaultQuiet,
	}
}

// flags defines the command line over o, whose values are its defaults.
func (o *options) flags(argv0 string, output io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet(argv0, flag.ContinueOnError)
	f.SetOutput(output)
	str := func(p *string, name, usage string) { f.StringVar(p, name, *p, usage) }
	boolean := func(p *bool, name, usage string) { f.BoolVar(p, name, *p, usage) }
	str(&o.Backend, "backend", "store: etcd, etcdv3, consul, vault, redis, zookeeper, dynamodb, ssm, secretsmanager, acm, imds, rancher, docker, file or env")
	f.Var(&list{values: &o.Nodes}, "node", "`address` of the store; may be given several times")
	str(&o.Confdir, "confdir", "folder of conf.d and templates")
	str(&o.ConfigFile, "config-file", "confd's own configuration")
	boolean(&o.Onetime, "onetime", "render once and exit")
	boolean(&o.Watch, "watch", "render when keys change")
	f.IntVar(&o.Interval, "interval", o.Interval, "`seconds` between two passes; with -watch, between two reads of vault and the stores of AWS (10 if not given)")
	boolean(&o.Noop, "noop", "only say what would be changed")
	boolean(&o.SyncOnly, "sync-only", "run neither check_cmd nor reload_cmd")
	boolean(&o.KeepStage, "keep-stage-file", "leave the staged files")
	str(&o.Prefix, "prefix", "replaces the prefix of every resource")
	str(&o.LogLevel, "log-level", "panic, fatal, error, warn, info, debug or trace (default info)")
	boolean(&o.Version, "version", "print the version and exit")
	f.Var(&list{values: &o.Files}, "file", "`path` of a YAML, JSON or TOML file, or a folder of them, for the store file; may be given several times")
	str(&o.Filter, "filter", "`pattern` of file names in such folders")
	str(&o.SRVDomain, "srv-domain", "`domain` whose SRV record names the nodes")
	str(&o.SRVRecord, "srv-record", "SRV `record` that names the nodes")
	str(&o.Scheme, "scheme", "scheme of consul, and of nodes found by SRV: http or https")
	boolean(&o.BasicAuth, "basic-auth", "send username and password")
	str(&o.Username, "username", "user of the store, with -basic-auth; of vault's login userpass")
	str(&o.Password, "password", "the user's password")
	str(&o.ClientCAKeys, "client-ca-keys", "PEM `file` of the CA that signs the store's certificate")
	str(&o.ClientCert, "client-cert", "PEM `file` of the client's certificate")
	str(&o.ClientKey, "client-key", "PEM `file` of its key; with redis its password")
	boolean(&o.Insecure, "client-insecure", "accepted, without effect")
	str(&o.AuthToken, "auth-token", "token of vault, or of GitHub for the login github")
	str(&o.AuthType, "auth-type", "how to log in to vault: token, app-role, app-id, github, userpass, kubernetes or cert")
	str(&o.AppID, "app-id", "app-id of vault's login app-id")
	str(&o.UserID, "user-id", "user-id of vault's login app-id")
	str(&o.RoleID, "role-id", "role-id of vault's login app-role; role of kubernetes")
	str(&o.SecretID, "secret-id", "secret-id of vault's login app-role")
	str(&o.Path, "path", "where vault's login is mounted (default its own name)")
	str(&o.Table, "table", "dynamodb's table")
	str(&o.Separator, "separator", "redis's separator")
	str(&o.VersionStage, "secretsmanager-version-stage", "`stage` of the secrets' versions (default AWSCURRENT)")
	boolean(&o.NoFlatten, "secretsmanager-no-flatten", "leave secrets that are JSON as they are")
	boolean(&o.ExportKey, "acm-export-private-key", "export private keys of certificates, with the passphrase in ACM_PASSPHRASE")
	f.DurationVar(&o.IMDSCacheTTL, "imds-cache-ttl", o.IMDSCacheTTL, "with -watch, `DURATION` between two reads of imds, as -interval")
	f.DurationVar(&o.Debounce, "debounce", o.Debounce, "with -watch, render when keys are quiet for `DURATION`; 0 renders each change")
	str(&o.MetricsAddr, "metrics-addr", "serve /metrics, /healthz and /status at `ADDRESS`")
	boolean(&o.Diff, "diff", "write what differs in a file to stdout; it shows the values of keys")
	return f
}

// forkBackends are the words that name one on the command line of confd's fork.
var forkBackends = []string{
	"consul", "etcd", "vault", "redis", "zookeeper", "dynamodb", "ssm", "acm", "secretsmanager", "imds", "env", "file",
}

// parse reads args over what o says. The first word that is no flag ends the
// flags, as in the original, but where it can't be mistaken for anything but
// the fork's command line: it names a backend and no flag does. Then flags go on
// behind it, -n too.
func (o *options) parse(argv0 string, output io.Writer, args []string) error {
	f := o.flags(argv0, output)
	if err := f.Parse(args); err != nil {
		return err
	}
	given := false
	visit := func(fl *flag.Flag) {
		given = given || fl.Name == "backend"
		o.intervalGiven = o.intervalGiven || fl.Name == "interval"
	}
	f.Visit(visit)
	rest := f.Args()
	read := len(args) - len(rest)
	if given || len(rest) == 0 || !slices.Contains(forkBackends, rest[0]) || read > 0 && args[read-1] == "--" {
		return nil
	}
	o.Backend, o.fork = rest[0], true
	f.Var(f.Lookup("node").Value, "n", "`address` of the store, as -node")
	err := f.Parse(rest[1:])
	f.Visit(visit)
	return err
}

// A list is a flag that adds up, and replaces what was there before the first.
type list struct {
	values *[]string
	given  bool
}

func (l *list) String() string {
	if l.values == nil {
		return ""
	}
	return strings.Join(*l.values, ", ")
}

func (l *list) Set(value string) error {
	if !l.given {
		*l.values, l.given = nil, true
	}
	*l.values = append(*l.values, value)
	return nil
}

// parse reads what was given. The later wins: built-in, confd.toml, environment,
// flags. Where it returns !ok confd ends with code; err is not yet logged.
func parse(std cli.Std, argv0 string, args []string) (o options, code int, ok bool, err error) {
	o = builtin()
	switch err := o.parse(argv0, std.Err, args); {
	case errors.Is(err, flag.ErrHelp):
		return o, cli.Done, false, nil
	case err != nil: // told by package flag, with the usage
		return o, cli.Usage, false, nil
	case o.Version:
		return o, cli.Done, true, nil
	}
	path := o.ConfigFile
	o = builtin()
	if err := o.readFile(path); err != nil {
		return o, cli.Failed, false, err
	}
	for name, p := range map[string]*string{
		"CONFD_CLIENT_CAKEYS": &o.ClientCAKeys,
		"CONFD_CLIENT_CERT":   &o.ClientCert,
		"CONFD_CLIENT_KEY":    &o.ClientKey,
	} {
		if v := std.Getenv(name); v != "" {
			*p = v
		}
	}
	// Again, over what the file and the environment say.
	if err := o.parse(argv0, io.Discard, args); err != nil {
		return o, cli.Usage, false, err
	}
	return o, cli.Done, true, nil
}

// readFile reads confd.toml. Keys and tables it doesn't know are ignored, so
// that a resource may be given as one.
func (o *options) readFile(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	md, err := toml.NewDecoder(bytes.NewReader(text)).Decode(o)
	if err != nil {
		return errors.New(template.TOMLError(path, err).Error()) // no resource's
	}
	o.intervalGiven = slices.ContainsFunc(md.Keys(), func(k toml.Key) bool { return strings.EqualFold(k.String(), "interval") })
	return nil
}
