package confd

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/cmd/internal/cli"
	"muster/template"
)

// optionRows are the options: the flag, its key in confd.toml and its variable,
// where it has them, the default, and a value on the command line and in the file.
var optionRows = []struct {
	flag, key, env string
	at             func(*options) any
	builtin        any
	given          string
	fromFlag       any
	written        string
	fromFile       any
}{
	{"backend", "backend", "", func(o *options) any { return o.Backend }, "etcd", "env", "env", `"file"`, "file"},
	{"node", "nodes", "", func(o *options) any { return o.Nodes }, []string(nil), "a,b", []string{"a,b"}, `["c", "d"]`, []string{"c", "d"}},
	{"confdir", "confdir", "", func(o *options) any { return o.Confdir }, "/etc/confd", "x", "x", `"y"`, "y"},
	{"config-file", "", "", func(o *options) any { return o.ConfigFile }, "/etc/confd/confd.toml", "x", "x", "", nil},
	{"onetime", "onetime", "", func(o *options) any { return o.Onetime }, false, "true", true, `true`, true},
	{"watch", "watch", "", func(o *options) any { return o.Watch }, false, "true", true, `true`, true},
	{"interval", "interval", "", func(o *options) any { return o.Interval }, 600, "0x10", 16, `7`, 7},
	{"noop", "noop", "", func(o *options) any { return o.Noop }, false, "true", true, `true`, true},
	{"sync-only", "sync-only", "", func(o *options) any { return o.SyncOnly }, false, "true", true, `true`, true},
	{"keep-stage-file", "keepstagefile", "", func(o *options) any { return o.KeepStage }, false, "true", true, `true`, true},
	{"prefix", "prefix", "", func(o *options) any { return o.Prefix }, "", "x", "x", `"y"`, "y"},
	{"log-level", "log-level", "", func(o *options) any { return o.LogLevel }, "", "x", "x", `"y"`, "y"},
	{"version", "", "", func(o *options) any { return o.Version }, false, "true", true, "", nil},
	{"file", "file", "", func(o *options) any { return o.Files }, []string(nil), "a", []string{"a"}, `["b"]`, []string{"b"}},
	{"filter", "filter", "", func(o *options) any { return o.Filter }, "*", "x", "x", `"y"`, "y"},
	{"srv-domain", "srv_domain", "", func(o *options) any { return o.SRVDomain }, "", "x", "x", `"y"`, "y"},
	{"srv-record", "srv_record", "", func(o *options) any { return o.SRVRecord }, "", "x", "x", `"y"`, "y"},
	{"scheme", "scheme", "", func(o *options) any { return o.Scheme }, "http", "x", "x", `"y"`, "y"},
	{"basic-auth", "basic_auth", "", func(o *options) any { return o.BasicAuth }, false, "true", true, `true`, true},
	{"username", "username", "", func(o *options) any { return o.Username }, "", "x", "x", `"y"`, "y"},
	{"password", "password", "", func(o *options) any { return o.Password }, "", "x", "x", `"y"`, "y"},
	{"client-ca-keys", "client_cakeys", "CONFD_CLIENT_CAKEYS", func(o *options) any { return o.ClientCAKeys }, "", "x", "x", `"y"`, "y"},
	{"client-cert", "client_cert", "CONFD_CLIENT_CERT", func(o *options) any { return o.ClientCert }, "", "x", "x", `"y"`, "y"},
	{"client-key", "client_key", "CONFD_CLIENT_KEY", func(o *options) any { return o.ClientKey }, "", "x", "x", `"y"`, "y"},
	{"client-insecure", "client_insecure", "", func(o *options) any { return o.Insecure }, false, "true", true, `true`, true},
	{"auth-token", "auth_token", "", func(o *options) any { return o.AuthToken }, "", "x", "x", `"y"`, "y"},
	{"auth-type", "auth_type", "", func(o *options) any { return o.AuthType }, "", "x", "x", `"y"`, "y"},
	{"app-id", "app_id", "", func(o *options) any { return o.AppID }, "", "x", "x", `"y"`, "y"},
	{"user-id", "user_id", "", func(o *options) any { return o.UserID }, "", "x", "x", `"y"`, "y"},
	{"role-id", "role_id", "", func(o *options) any { return o.RoleID }, "", "x", "x", `"y"`, "y"},
	{"secret-id", "secret_id", "", func(o *options) any { return o.SecretID }, "", "x", "x", `"y"`, "y"},
	{"path", "path", "", func(o *options) any { return o.Path }, "", "x", "x", `"y"`, "y"},
	{"table", "table", "", func(o *options) any { return o.Table }, "", "x", "x", `"y"`, "y"},
	{"separator", "separator", "", func(o *options) any { return o.Separator }, "", "x", "x", `"y"`, "y"},
	{"secretsmanager-version-stage", "secretsmanager_version_stage", "", func(o *options) any { return o.VersionStage }, "", "x", "x", `"y"`, "y"},
	{"secretsmanager-no-flatten", "secretsmanager_no_flatten", "", func(o *options) any { return o.NoFlatten }, false, "true", true, `true`, true},
	{"acm-export-private-key", "acm_export_private_key", "", func(o *options) any { return o.ExportKey }, false, "true", true, `true`, true},
	{"imds-cache-ttl", "imds_cache_ttl", "", func(o *options) any { return o.IMDSCacheTTL }, time.Duration(0), "5m", 5 * time.Minute, `"90s"`, 90 * time.Second},
	{"debounce", "", "", func(o *options) any { return o.Debounce }, template.DefaultQuiet, "2s", 2 * time.Second, "", nil},
	{"metrics-addr", "", "", func(o *options) any { return o.MetricsAddr }, "", "x", "x", "", nil},
	{"diff", "", "", func(o *options) any { return o.Diff }, false, "true", true, "", nil},
}

// parseHere is parse with a confd.toml of this text and these variables.
func parseHere(t *testing.T, text string, env map[string]string, args ...string) *options {
	t.Helper()
	path := filepath.Join(t.TempDir(), "confd.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	std := cli.Std{Out: &errs, Err: &errs, Getenv: func(name string) string { return env[name] }}
	o, _, ok, err := parse(std, "confd", append([]string{"-config-file", path}, args...))
	if !ok || err != nil {
		t.Fatalf("%q: %v\n%s", args, err, errs.String())
	}
	if o.ConfigFile == path {
		o.ConfigFile = builtin().ConfigFile
	}
	return &o
}

// Every flag in every form, and what wins: built-in < confd.toml < environment <
// a flag that was given, whatever it was given.
func TestOptions(t *testing.T) {
	for _, r := range optionRows {
		t.Run(r.flag, func(t *testing.T) {
			want := func(where string, o *options, want any) {
				t.Helper()
				if got := r.at(o); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %#v, want %#v", where, got, want)
				}
			}
			boolean := r.builtin == false
			want("nothing said", parseHere(t, "", nil), r.builtin)
			forms := [][]string{{"-" + r.flag + "=" + r.given}, {"--" + r.flag + "=" + r.given}}
			if boolean {
				forms = append(forms, []string{"-" + r.flag}, []string{"--" + r.flag})
			} else {
				forms = append(forms, []string{"-" + r.flag, r.given}, []string{"--" + r.flag, r.given})
			}
			if r.flag == "config-file" { // given twice: the last
				var errs strings.Builder
				for _, form := range forms {
					o, _, _, err := parse(cli.Std{Err: &errs, Getenv: func(string) string { return "" }}, "confd", form)
					if err != nil {
						t.Fatal(err)
					}
					want(strings.Join(form, " "), &o, r.fromFlag)
				}
				return
			}
			for _, form := range forms {
				want(strings.Join(form, " "), parseHere(t, "", nil, form...), r.fromFlag)
			}
			if r.key == "" {
				return
			}
			file := r.key + " = " + r.written + "\n"
			want("confd.toml", parseHere(t, file, nil), r.fromFile)
			want("confd.toml in capitals", parseHere(t, strings.ToUpper(r.key)+" = "+r.written+"\n", nil), r.fromFile)
			want("flag over confd.toml", parseHere(t, file, nil, forms[0]...), r.fromFlag)
			if boolean {
				want("a flag that is off", parseHere(t, file, nil, "-"+r.flag+"=false"), false)
			} else if _, list := r.builtin.([]string); !list {
				standard := fmt.Sprint(r.builtin)
				want("a flag that says the default", parseHere(t, file, nil, "-"+r.flag, standard), r.builtin)
			}
			if r.env != "" {
				env := map[string]string{r.env: "z"}
				want("environment", parseHere(t, "", env), "z")
				want("environment over confd.toml", parseHere(t, file, env), "z")
				want("flag over environment", parseHere(t, file, env, forms[0]...), r.fromFlag)
			}
		})
	}
}

// No flag, no key and no variable without a row, and no flag without a script
// that shows both its dashes and its key.
func TestEveryOptionIsShown(t *testing.T) {
	var flags, keys []string
	for _, r := range optionRows {
		flags = append(flags, r.flag)
		if r.key != "" {
			keys = append(keys, r.key)
		}
		text, err := os.ReadFile("testdata/flag/" + r.flag + ".txtar")
		if err != nil {
			t.Errorf("-%s has no script: %v", r.flag, err)
			continue
		}
		for _, form := range []string{` -` + r.flag + `\b`, ` --` + r.flag + `\b`, `(?m)^` + r.key + ` = `, r.env} {
			if (r.key != "" || !strings.HasSuffix(form, " = ")) && !regexp.MustCompile(form).Match(text) {
				t.Errorf("testdata/flag/%s.txtar shows no %q", r.flag, form)
			}
		}
	}
	var defined []string
	o := builtin()
	o.flags("confd", io.Discard).VisitAll(func(f *flag.Flag) { defined = append(defined, f.Name) })
	slices.Sort(flags)
	if !slices.Equal(flags, defined) {
		t.Errorf("rows: %q, flags: %q", flags, defined)
	}
	inFile := tomlKeys()
	slices.Sort(keys)
	slices.Sort(inFile)
	if !slices.Equal(keys, inFile) {
		t.Errorf("rows: %q, keys of confd.toml: %q", keys, inFile)
	}
}

// A store of AWS is read as -interval says, where that was given, whatever is built
// in for passes.
func TestIntervalOfWatch(t *testing.T) {
	for _, c := range []struct {
		file string
		args []string
		want time.Duration
	}{
		{"", []string{"-backend", "ssm"}, 0},
		{"", []string{"-backend", "ssm", "-interval", "600"}, 600 * time.Second},
		{"", []string{"ssm", "-interval", "7"}, 7 * time.Second},
		{"", []string{"-backend", "ssm", "-interval", "0"}, time.Second},
		{"Interval = 7", []string{"-backend", "ssm"}, 7 * time.Second},
		{"interval = 7", []string{"-backend", "imds", "-imds-cache-ttl", "2m"}, 2 * time.Minute},
	} {
		if got := parseHere(t, c.file, nil, c.args...).store(nil).Interval; got != c.want {
			t.Errorf("%q, %q: got %v, want %v", c.file, c.args, got, c.want)
		}
	}
}
