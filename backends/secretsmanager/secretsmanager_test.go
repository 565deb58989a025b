package secretsmanager_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/secretsmanager"
	"muster/internal/awstest"
)

func TestContract(t *testing.T) {
	for name, together := range map[string]bool{"alone": false, "together": true} {
		t.Run(name, func(t *testing.T) {
			p := awstest.NewSecrets()
			s := awstest.Start(t, p)
			awstest.Setenv(t, s, awstest.Default)
			backendtest.Run(t, awstest.Contract(s, p, func() (backends.Store, error) {
				store, err := secretsmanager.Open("secretsmanager:?interval=50ms", nil)
				if together {
					return awstest.Together{Together: store}, err
				}
				return store, err
			}))
		})
	}
}

// read is what is under prefixes now, as text.
func read(t *testing.T, store *secretsmanager.Store, prefixes ...string) string {
	t.Helper()
	c, err := store.Read(t.Context(), prefixes)
	if err != nil {
		return err.Error()
	}
	keys := make(map[string]string)
	for _, kv := range c.Put {
		keys[kv.Key] = kv.Value
	}
	return backendtest.Text(keys)
}

// Objects are levels. The fork prints what is no text as Go does: 1.234567e+06,
// map[a:1], <nil>.
func TestFields(t *testing.T) {
	p, _, store := start(t)
	p.Put("/db", `{"user": "web", "port": 5432, "big": 12345678901234567890, "tls": true, "none": null, "in": {"a": 1.50}, "list": ["x", "y"]}`)
	p.Put("/list", `["no", "object"]`)
	p.Put("/two", `{"a": 1} {"b": 2}`)
	p.Put("/number", "5")
	p.PutBinary("/binary", []byte{0, 255})
	want := "/binary=AP8= /db/big=12345678901234567890 /db/in/a=1.50 /db/list/0=x /db/list/1=y /db/port=5432 /db/tls=true /db/user=web" +
		` /list=["no", "object"] /number=5 /two={"a": 1} {"b": 2}`
	if got := read(t, store, "/"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for prefix, want := range map[string]string{
		"/db/port":   "/db/port=5432", // a field, without the secret's name
		"/db/in":     "/db/in/a=1.50",
		"/db/nobody": "",
		"/d":         "",
	} {
		if got := read(t, store, prefix); got != want {
			t.Errorf("%s: got %s, want %s", prefix, got, want)
		}
	}
	whole := open(t, "&flatten=no", nil)
	if got := read(t, whole, "/db"); !strings.HasPrefix(got, `/db={"user": "web"`) {
		t.Errorf("whole: got %s", got)
	}
	if got := read(t, whole, "/db/port"); got != "" {
		t.Errorf("a field, whole: got %s, want nothing", got)
	}
	p.Put("/db/port", "its own") // wins over the field
	if got := read(t, store, "/db"); !strings.Contains(got, "/db/port=its own") {
		t.Errorf("a secret and a field of one name: got %s", got)
	}
}

func TestStage(t *testing.T) {
	p, _, store := start(t)
	p.Put("/k", "old")
	p.Put("/k", "new")
	p.Put("/fresh", "x") // has no previous version
	if got := read(t, store, "/"); got != "/fresh=x /k=new" {
		t.Errorf("current: got %s", got)
	}
	if got := read(t, open(t, "&stage=AWSPREVIOUS", nil), "/"); got != "/k=old" {
		t.Errorf("previous: got %s", got)
	}
	p.Leave("/k")
	if got := read(t, store, "/k"); got != "" {
		t.Errorf("marked for deletion: got %s, want nothing", got)
	}
}

// A list of several pages is one state, and only what has a new version is asked for.
func TestListsAndVersions(t *testing.T) {
	p, s, store := start(t)
	for i := range 25 {
		p.Put(fmt.Sprintf("/k/%02d", i), "x")
	}
	r := backendtest.NewReader(t, store, "/k")
	r.Until("all secrets", func() bool { return len(r.Keys) == 25 })
	r.Alive(10)
	if n := s.Asked("GetSecretValue"); n != 25 {
		t.Errorf("got values %d times, want 25", n)
	}
	p.Put("/k/07", "y")
	r.Until("a change", func() bool { return r.Keys["/k/07"] == "y" })
	if n := s.Asked("GetSecretValue"); n != 26 {
		t.Errorf("got values %d times after a change, want 26", n)
	}
	s.Refuse(awstest.FailOn("NextToken"))
	r.Fails("secretsmanager: ListSecrets: InternalServerError")
	s.Refuse(nil)
	p.Delete("/k/00")
	r.Until("a secret less", func() bool { return len(r.Keys) == 24 })
	p.Put("/k/00", "again")
	r.Until("it is back", func() bool { return r.Keys["/k/00"] == "again" })
	r.Counts(1, 1)
}

func TestManyPrefixes(t *testing.T) {
	p, _, store := start(t)
	var prefixes []string
	for i := range 30 {
		prefixes = append(prefixes, fmt.Sprintf("/k%02d", i))
	}
	p.Put("/k00/x", "1")
	p.Put("/k29", "2")
	p.Put("//k03/y", "3") // its name begins with a slash
	p.Put("/k2", "not asked for")
	if got := read(t, store, prefixes...); got != "/k00/x=1 /k03/y=3 /k29=2" {
		t.Errorf("got %s", got)
	}
}

// The right to list is not often given: the secrets that keys name are enough.
func TestWithoutList(t *testing.T) {
	p, s, _ := start(t)
	log := new(backendtest.Logbook)
	store := open(t, "", log.Logger())
	p.Put("/a/token", "abc")
	p.Put("/db", `{"user": "web"}`)
	s.Deny("ListSecrets")
	for range 2 {
		if got := read(t, store, "/a/token", "/db", "/none"); got != "/a/token=abc /db/user=web" {
			t.Errorf("by name: got %s", got)
		}
		if got := read(t, store, "/db/user"); got != "/db/user=web" {
			t.Errorf("a field: got %s", got)
		}
	}
	if n := log.Count("ListSecrets is not allowed"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	s.Deny("ListSecrets", "GetSecretValue")
	if _, err := store.Read(t.Context(), []string{"/a/token"}); !errors.Is(err, backends.ErrDenied) || !strings.HasPrefix(err.Error(), "secretsmanager: GetSecretValue: AccessDeniedException: ") {
		t.Errorf("nothing allowed: got %v", err)
	}
}

// Of a level that may be read in part there is that part; a secret that is asked
// for by name is an error.
func TestASecretThatMayNotBeRead(t *testing.T) {
	p, s, _ := start(t)
	log := new(backendtest.Logbook)
	store := open(t, "", log.Logger())
	p.Put("/k/open", "1")
	p.Put("/k/closed", "2")
	s.Refuse(awstest.DenyOn("GetSecretValue", "closed"))
	r := backendtest.NewReader(t, store, "/k")
	r.Has("/k/open=1")
	r.Alive(3)
	if n := log.Count(`secret \"k/closed\" may not be read and is left out`); n != 1 {
		t.Errorf("logged %d times, want once: %s", n, log)
	}
	backendtest.NewReader(t, store, "/k/closed").Fails("AccessDeniedException")
	if _, err := store.Read(t.Context(), []string{"/k"}); !errors.Is(err, backends.ErrDenied) {
		t.Errorf("together: got %v, want ErrDenied", err)
	}
	s.Refuse(nil)
	r.Has("/k/closed=2 /k/open=1")
}

func TestURLSaysWhatIsWrong(t *testing.T) {
	for url, want := range map[string]string{
		"secretsmanager:db":             "want secretsmanager: alone",
		"secretsmanager:?flatten=never": `flatten "never": want yes or no`,
		"secretsmanager:?stge=x":        "(did you mean stage?)",
	} {
		if _, err := secretsmanager.Open(url, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): got %v, want an error with %s", url, err, want)
		}
	}
}

func TestNothingGrows(t *testing.T) {
	p, s, store := start(t)
	awstest.NothingGrows(t, s, store, "/k", p.Put)
}

// No error and no log line holds a value.
func TestNoValueIsSaid(t *testing.T) {
	p, s, _ := start(t)
	log := new(backendtest.Logbook)
	store := open(t, "", log.Logger())
	p.Put("/k", "hunter2")
	r := backendtest.NewReader(t, store, "/k")
	r.Has("/k=hunter2")
	s.Throttle(-1)
	r.Fails("ThrottlingException")
	if said := append(slices.Clone(r.Errors), log.String()); strings.Contains(strings.Join(said, "\n"), "hunter2") {
		t.Errorf("said: %q", said)
	}
}
