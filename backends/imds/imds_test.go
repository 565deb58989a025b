package imds_test

import (
	"context"
	"iter"
	"strings"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/imds"
	"muster/internal/awstest"
)

// A suiteStore shows what lies below meta-data as the suite names it, where it asks
// for everything.
type suiteStore struct{ backends.Store }

func (s suiteStore) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	return func(yield func(backends.Change, error) bool) {
		for c, err := range s.Store.Watch(ctx, prefixes) {
			for i := range c.Put {
				c.Put[i].Key = strings.TrimPrefix(c.Put[i].Key, "/meta-data")
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// suite puts the suite's keys below meta-data.
type suite struct{ *awstest.IMDS }

func (s suite) Put(key, value string) { s.IMDS.Put("/meta-data"+key, value) }
func (s suite) Delete(key string)     { s.IMDS.Delete("/meta-data" + key) }

func TestContract(t *testing.T) {
	p := suite{awstest.NewIMDS()}
	s := awstest.Start(t, p)
	for name, together := range map[string]bool{"alone": false, "together": true} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, awstest.Contract(s, p, func() (backends.Store, error) {
				store, err := imds.Open("imds:?interval=50ms&endpoint="+s.URL(), nil)
				if together {
					return suiteStore{awstest.Together{Together: store}}, err
				}
				return suiteStore{store}, err
			}))
		})
	}
}

// read is what is under prefixes now, as text.
func read(t *testing.T, store *imds.Store, prefixes ...string) string {
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

// What is a folder is not known by how many lines it has: the fork takes a folder
// of one for a value, and a value of many for a folder.
func TestPaths(t *testing.T) {
	m, s, store := start(t)
	m.Put("/meta-data/instance-id", "i-1")
	m.Put("/meta-data/iam/security-credentials/role", "{}")
	m.Put("/meta-data/placement/region", "eu-west-1")
	m.Put("/meta-data/placement/availability-zone", "eu-west-1a")
	m.Put("/meta-data/public-keys/0/openssh-key", "ssh-rsa AAAA")
	m.Put("/dynamic/instance-identity/document", "{\n  \"region\": \"eu-west-1\"\n}")
	m.Put("/user-data", "#!/bin/sh\necho up\n")
	all := "/dynamic/instance-identity/document={\n  \"region\": \"eu-west-1\"\n}" +
		" /meta-data/iam/security-credentials/role={} /meta-data/instance-id=i-1" +
		" /meta-data/placement/availability-zone=eu-west-1a /meta-data/placement/region=eu-west-1" +
		" /meta-data/public-keys/0/openssh-key=ssh-rsa AAAA /user-data=#!/bin/sh\necho up\n"
	for prefixes, want := range map[string]string{
		"/":                            all,
		"":                             all,
		"/latest":                      "/latest" + strings.Join(strings.Split(all, " /"), " /latest/"),
		"/meta-data/instance-id":       "/meta-data/instance-id=i-1",
		"/instance-id":                 "/instance-id=i-1",
		"/latest/meta-data/placement/": "/latest/meta-data/placement/availability-zone=eu-west-1a /latest/meta-data/placement/region=eu-west-1",
		"/placement /instance-id":      "/instance-id=i-1 /placement/availability-zone=eu-west-1a /placement/region=eu-west-1",
		"/iam":                         "/iam/security-credentials/role={}",
		"/dynamic/instance-identity":   "/dynamic/instance-identity/document={\n  \"region\": \"eu-west-1\"\n}",
		"/user-data":                   "/user-data=#!/bin/sh\necho up\n",
		"/user-data/x":                 "",
		"/place":                       "",
		"/instance-id/x":               "",
		"/none/x":                      "",
	} {
		if got := read(t, store, strings.Split(prefixes, " ")...); got != want {
			t.Errorf("%s: got %q, want %q", prefixes, got, want)
		}
	}
	before := s.Asked("/latest/meta-data/")
	if got := read(t, store, "/placement", "/instance-id", "/iam"); !strings.Contains(got, "i-1") {
		t.Errorf("got %s", got)
	}
	if n := s.Asked("/latest/meta-data/") - before; n != 1 {
		t.Errorf("the top was listed %d times in one read, want once", n)
	}
	m.Delete("/user-data")
	if got := read(t, store, "/user-data"); got != "" {
		t.Errorf("no user data: got %q", got)
	}
}

// A token that is no good any more is replaced; a part that fails fails the whole.
func TestTokensAndErrors(t *testing.T) {
	m, s, store := start(t)
	m.Put("/meta-data/a", "1")
	m.Put("/meta-data/b/c", "2")
	r := backendtest.NewReader(t, store, "/")
	r.Has("/meta-data/a=1 /meta-data/b/c=2")
	if n := s.Asked("/latest/api/token"); n != 1 {
		t.Errorf("asked for %d tokens, want 1", n)
	}
	m.Revoke()
	m.Put("/meta-data/a", "3")
	r.Has("/meta-data/a=3 /meta-data/b/c=2")
	s.Refuse(func(path string, _ []byte) *awstest.Error {
		if path == "/latest/meta-data/b/c" {
			return new(awstest.Error)
		}
		return nil
	})
	r.Fails("imds: GetMetadata: ")
	s.Refuse(nil)
	m.Put("/meta-data/a", "4")
	r.Has("/meta-data/a=4 /meta-data/b/c=2")
	r.Counts(1, 1)
	s.Stop()
	r.Fails("imds: GetMetadata: dial tcp " + s.Addr() + ": connect: connection refused")
	if err := store.Reach(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Reach: got %v", err)
	}
	for url, want := range map[string]string{"imds:x": "want imds: alone", "imds:?endpoin=x": "did you mean endpoint?"} {
		if _, err := imds.Open(url, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): got %v, want an error with %s", url, err, want)
		}
	}
}

func TestNothingGrows(t *testing.T) {
	m, s, store := start(t)
	awstest.NothingGrows(t, s, store, "/meta-data/k", m.Put)
}
