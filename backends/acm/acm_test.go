package acm_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/backends"
	"muster/backends/acm"
	"muster/backends/backendtest"
	"muster/internal/awstest"
)

// certificates are the names of all certificates, below which the suite's keys lie.
const certificates = "/" + awstest.CertificatePrefix

// A suiteStore has certificates that are named as the suite's keys are.
type suiteStore struct{ *acm.Store }

func (s suiteStore) Watch(ctx context.Context, prefixes []string) iter.Seq2[backends.Change, error] {
	var below []string
	for _, p := range prefixes {
		if strings.Trim(p, "/") != "" {
			p = certificates + p[1:]
		}
		below = append(below, p)
	}
	return func(yield func(backends.Change, error) bool) {
		for c, err := range s.Store.Watch(ctx, below) {
			for i := range c.Put {
				c.Put[i].Key = "/" + strings.TrimPrefix(c.Put[i].Key, certificates)
			}
			for i := range c.Deleted {
				c.Deleted[i] = "/" + strings.TrimPrefix(c.Deleted[i], certificates)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// suite names certificates as the suite's keys are.
type suite struct{ *awstest.ACM }

func (s suite) Put(key, value string) { s.ACM.Put(certificates+key[1:], value) }
func (s suite) Delete(key string)     { s.ACM.Delete(certificates + key[1:]) }

func TestContract(t *testing.T) {
	p := suite{awstest.NewACM()}
	s := awstest.Start(t, p)
	awstest.Setenv(t, s, awstest.Default)
	backendtest.Run(t, awstest.Contract(s, p, func() (backends.Store, error) {
		store, err := acm.Open("acm:?interval=50ms", nil)
		return suiteStore{store}, err
	}))
}

// id is the key of a certificate, as they are named in truth.
func id(n int) string { return certificates + fmt.Sprintf("12345678-1234-1234-1234-%012d", n) }

// read is what is under prefixes now, without what all names begin with.
func read(t *testing.T, store *acm.Store, prefixes ...string) string {
	t.Helper()
	for c, err := range store.Watch(t.Context(), prefixes) {
		if err != nil {
			return err.Error()
		}
		keys := make(map[string]string)
		for _, kv := range c.Put {
			keys[strings.TrimPrefix(kv.Key, certificates+"12345678-1234-1234-1234-")] = kv.Value
		}
		return backendtest.Text(keys)
	}
	return "nothing came"
}

// A certificate's chain comes with it, and one that is asked for by name is one
// request.
func TestCertificateAndChain(t *testing.T) {
	p, s, store := start(t)
	p.PutCertificate(id(1), awstest.Certificate{Text: "CERT1", Chain: "CHAIN1"})
	p.PutCertificate(id(2), awstest.Certificate{Text: "CERT2"})
	p.PutCertificate(id(3), awstest.Certificate{Pending: true})
	for prefix, want := range map[string]string{
		id(1):            "000000000001=CERT1 000000000001_chain=CHAIN1",
		id(1) + "_chain": "000000000001_chain=CHAIN1",
		id(2):            "000000000002=CERT2",
		id(9):            "",
		id(3):            "acm: GetCertificate: RequestInProgressException: The certificate request is in progress.",
	} {
		if got := read(t, store, prefix); got != want {
			t.Errorf("%s: got %s, want %s", prefix, got, want)
		}
	}
	if n := s.Asked("ListCertificates"); n != 0 {
		t.Errorf("asked for %d lists, want none", n)
	}
	if got, want := read(t, store, "/"), "000000000001=CERT1 000000000001_chain=CHAIN1 000000000002=CERT2"; got != want {
		t.Errorf("all: got %s, want %s", got, want)
	}
	p.PutCertificate(id(1), awstest.Certificate{Text: "RENEWED", Chain: "CHAIN2"})
	if got := read(t, store, id(1)); got != "000000000001=RENEWED 000000000001_chain=CHAIN2" {
		t.Errorf("renewed: got %s", got)
	}
}

// A list goes to its last page, and is not of RSA keys alone, as it would be by
// default.
func TestListsAreWhole(t *testing.T) {
	p, s, store := start(t)
	for i := range 25 {
		c := awstest.Certificate{Text: "x"}
		if i%2 == 1 {
			c.KeyType = "EC_prime256v1"
		}
		p.PutCertificate(id(i), c)
	}
	r := backendtest.NewReader(t, store, certificates)
	r.Until("all certificates", func() bool { return len(r.Keys) == 25 })
	s.Refuse(awstest.FailOn("NextToken"))
	r.Fails("acm: ListCertificates: InternalServerError")
	s.Refuse(nil)
	p.Delete(id(0))
	r.Until("one less", func() bool { return len(r.Keys) == 24 })
	r.Counts(1, 1)
}

// Each export gives another text, so a key is exported once for each certificate:
// else every read would be a change.
func TestPrivateKeyIsExportedOnce(t *testing.T) {
	p, s, _ := start(t)
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(backendtest.Logbook)
	store := open(t, "&passphrase=file:"+file, log.Logger())
	p.PutCertificate(id(1), awstest.Certificate{Text: "CERT1", Key: "KEY1"})
	key := id(1) + "_private_key"
	r := backendtest.NewReader(t, store, id(1))
	r.Until("a key", func() bool { return strings.Contains(r.Keys[key], "BEGIN ENCRYPTED PRIVATE KEY") })
	first := r.Keys[key]
	r.Alive(10)
	if n := s.Asked("ExportCertificate"); n != 1 || r.Keys[key] != first {
		t.Errorf("exported %d times, want once, and always the same", n)
	}
	other := backendtest.NewReader(t, store, certificates)
	other.Until("the same key", func() bool { return other.Keys[key] == first })
	p.PutCertificate(id(1), awstest.Certificate{Text: "RENEWED", Key: "KEY2"})
	r.Until("another key", func() bool { return r.Keys[key] != first && r.Keys[id(1)] == "RENEWED" })
	if n := s.Asked("ExportCertificate"); n > 3 { // two watches may have been at it at once
		t.Errorf("exported %d times after a renewal, want 2", n)
	}

	// One that may not be exported is an error where it is asked for by name.
	p.PutCertificate(id(2), awstest.Certificate{Text: "PUBLIC"})
	if got := read(t, store, id(2)); !strings.Contains(got, "acm: ExportCertificate: ValidationException: The certificate arn:") {
		t.Errorf("not to be exported, by name: got %s", got)
	}
	if got := read(t, store, "/"); !strings.Contains(got, "000000000002=PUBLIC") || strings.Contains(got, "000000000002_private_key") {
		t.Errorf("not to be exported, among others: got %s", got)
	}
	if n := log.Count("has no private key to export"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	if strings.Contains(log.String(), "open sesame") {
		t.Errorf("the passphrase is in the log")
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	p, s, store := start(t)
	p.Put(id(1), "CERT")
	s.Deny("GetCertificate")
	if got := read(t, store, id(1)); !strings.HasPrefix(got, "acm: GetCertificate: AccessDeniedException: User: arn:") {
		t.Errorf("denied: got %s", got)
	}
	for url, want := range map[string]string{
		"acm:x":                      "want acm: alone",
		"acm:?passphrase=hunter2":    "want file:PATH",
		"acm:?passphrase=file:/no/x": "no such file",
	} {
		if _, err := acm.Open(url, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): got %v, want an error with %s", url, err, want)
		}
	}
}

func TestNothingGrows(t *testing.T) {
	p, s, store := start(t)
	awstest.NothingGrows(t, s, store, certificates+"k", p.Put)
}
