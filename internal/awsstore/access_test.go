package awsstore

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"muster/backends"
	"muster/internal/awstest"
	"muster/internal/proctest"
)

// tables answers ListTables, the smallest of requests.
type tables struct{}

func (tables) Name() string { return "dynamodb" }

func (tables) Serve(string, []byte, *http.Request) (any, *awstest.Error) {
	return map[string]any{"TableNames": []string{}}, nil
}

// access is the way to s as the environment says.
func access(t *testing.T, cfg Config) *Access[*dynamodb.Client] {
	a := NewAccess("test", cfg, func(c aws.Config) *dynamodb.Client { return dynamodb.NewFromConfig(c) })
	t.Cleanup(a.Close)
	return a
}

func ask(t *testing.T, a *Access[*dynamodb.Client]) error {
	return a.Do(t.Context(), func(ctx context.Context, c *dynamodb.Client) error {
		_, err := c.ListTables(ctx, &dynamodb.ListTablesInput{})
		return err
	})
}

// fromFile takes the credentials out of the environment and returns how to write
// them into the shared file.
func fromFile(t *testing.T) (write func(awstest.Credentials)) {
	path := filepath.Join(t.TempDir(), "credentials")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	return func(c awstest.Credentials) {
		text := "[default]\naws_access_key_id=" + c.AccessKey + "\naws_secret_access_key=" + c.Secret + "\naws_session_token=" + c.Token + "\n"
		text += "[other]\naws_access_key_id=AKIAOTHER\naws_secret_access_key=other\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Credentials that were renewed before anybody noticed cost nothing; those that
// come late heal, and nothing is asked with the old ones again and again.
func TestCredentialsAreRenewed(t *testing.T) {
	s := awstest.Start(t, tables{})
	awstest.Setenv(t, s, awstest.Default)
	write := fromFile(t)
	a := access(t, Config{})
	if err := ask(t, a); err == nil || !strings.HasPrefix(err.Error(), "test: no credentials: ") {
		t.Fatalf("without credentials: got %v", err)
	}
	old := awstest.Credentials{AccessKey: "ASIA1", Secret: "s1", Token: "t1"}
	s.Accept(old)
	write(old)
	if err := ask(t, a); err != nil {
		t.Fatalf("credentials that came: %v", err)
	}
	s.Expire("ASIA1")
	fresh := awstest.Credentials{AccessKey: "ASIA2", Secret: "s2", Token: "t2"}
	s.Accept(fresh)
	write(fresh)
	if err := ask(t, a); err != nil {
		t.Errorf("renewed before they were missed: %v", err)
	}
	s.Expire("ASIA2")
	before := s.Asked("")
	const expired = "test: ListTables: ExpiredTokenException: The security token included in the request is expired"
	if err := ask(t, a); err == nil || err.Error() != expired {
		t.Errorf("expired: got %v", err)
	}
	if n := s.Asked("") - before; n != 1 {
		t.Errorf("expired credentials were sent %d times, want once", n)
	}
	s.Accept(old)
	write(old)
	if err := ask(t, a); err != nil {
		t.Errorf("renewed late: %v", err)
	}
	proctest.Eventually(t, "no more than one connection is open", func() bool { open, _ := s.Conns(); return open <= 1 })
}

// On an instance its role gives credentials, and it knows its region. A role's new
// credentials are there before the old ones end.
func TestInstance(t *testing.T) {
	s := awstest.Start(t, tables{})
	m := awstest.NewIMDS()
	instance := awstest.Start(t, m)
	awstest.Setenv(t, s, awstest.Default)
	fromFile(t)
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.URL())
	m.Put("/dynamic/instance-identity/document", `{"region": "`+awstest.Region+`"}`)
	a := access(t, Config{})
	if err := ask(t, a); err == nil || !strings.HasPrefix(err.Error(), "test: no credentials: ") {
		t.Errorf("without a role: got %v", err)
	}
	for _, n := range []string{"1", "2"} {
		c := awstest.Credentials{AccessKey: "ASIA" + n, Secret: "s" + n, Token: "t" + n}
		s.Accept(c)
		m.Role("web", c)
		if err := ask(t, a); err != nil {
			t.Errorf("role's credentials %s: %v", n, err)
		}
		s.Expire(c.AccessKey)
	}
	proctest.Eventually(t, "nobody stays connected to the instance", func() bool { open, _ := instance.Conns(); return open == 0 })
}

// The configuration of a store wins over what the SDK finds.
func TestRegionProfileEndpoint(t *testing.T) {
	s := awstest.Start(t, tables{})
	awstest.Setenv(t, s, awstest.Default)
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	t.Setenv("AWS_REGION", "us-wrong-1")
	fromFile(t)(awstest.Default)
	if err := ask(t, access(t, Config{Region: awstest.Region, Profile: "other", Endpoint: s.URL()})); err == nil || !strings.Contains(err.Error(), "UnrecognizedClientException") {
		t.Errorf("profile other has credentials that are not accepted: got %v", err)
	}
	t.Setenv("AWS_PROFILE", "no-such")
	if err := ask(t, access(t, Config{})); err == nil || !strings.Contains(err.Error(), "no-such") {
		t.Errorf("a profile that is not there: got %v", err)
	}
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if err := ask(t, access(t, Config{Endpoint: s.URL()})); err == nil || !strings.HasPrefix(err.Error(), "test: no region: want AWS_REGION") {
		t.Errorf("no region: got %v", err)
	}
}

// An own CA, as AWS's tools take it, works with our connections too.
func TestOwnCA(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Crc32", "2745614147") // of {}
		_, _ = w.Write([]byte("{}"))
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	awstest.Setenv(t, awstest.Start(t, tables{}), awstest.Default)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	if err := ask(t, access(t, Config{})); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the CA: got %v", err)
	}
	t.Setenv("AWS_CA_BUNDLE", path)
	if err := ask(t, access(t, Config{})); err != nil {
		t.Errorf("with the CA: %v", err)
	}
}

// The SDK tries again; what it gives up is an error that is the same each time, and
// what is denied says so.
func TestErrors(t *testing.T) {
	s := awstest.Start(t, tables{})
	awstest.Setenv(t, s, awstest.Default)
	a := access(t, Config{})
	s.Throttle(2)
	if err := ask(t, a); err != nil {
		t.Errorf("throttled twice: %v", err)
	}
	s.Deny("ListTables")
	first, second := ask(t, a), ask(t, a)
	const denied = "test: ListTables: AccessDeniedException: User: arn:aws:iam::123456789012:user/confd is not authorized to perform: dynamodb:ListTables"
	if !errors.Is(first, backends.ErrDenied) || first.Error() != denied || second.Error() != denied {
		t.Errorf("denied: got %v, then %v, want ErrDenied and both times %s", first, second, denied)
	}
	s.Deny()
	s.Throttle(-1)
	if err := ask(t, a); err == nil || err.Error() != "test: ListTables: ThrottlingException: Rate exceeded" {
		t.Errorf("throttled: got %v", err)
	}
	if a.until.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("the next request is not put off")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Do(ctx, func(context.Context, *dynamodb.Client) error { t.Error("asked"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: got %v", err)
	}
}

// Each time that the service was asked too much the pause is longer, up to a
// minute, until all is well again.
func TestPauseGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAccess("test", Config{}, func(aws.Config) int { return 0 })
		pause := func() time.Duration {
			begin := time.Now()
			if err := a.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		if p := pause(); p != 0 {
			t.Errorf("at first: waits %v", p)
		}
		a.pace(true)
		if p := pause(); p < time.Second/2 || p > 3*time.Second/2 {
			t.Errorf("once: waits %v, want about 1 s", p)
		}
		var total time.Duration
		for range 15 {
			a.pace(true)
			p := pause()
			if p > 90*time.Second {
				t.Errorf("waits %v, want about a minute at most", p)
			}
			total += p
		}
		if total < 2*time.Minute {
			t.Errorf("waits %v in 15 times, want minutes", total)
		}
		a.pace(false)
		a.pace(true)
		if p := pause(); p > 3*time.Second/2 {
			t.Errorf("after it was well: waits %v, want about 1 s", p)
		}
	})
}

func TestParseURL(t *testing.T) {
	c, u, err := ParseURL("x:a/b?region=r&profile=p&endpoint=http://h:1&interval=1m&own=o", "x", "own")
	if want := (Config{Region: "r", Profile: "p", Endpoint: "http://h:1", Interval: time.Minute}); err != nil || c != want || u.Path != "a/b" || u.Get("own") != "o" {
		t.Errorf("got %+v, %q, %v", c, u.Path, err)
	}
	for _, bad := range []string{"y:", "x://h", "x:?interval=0s", "x:?own=o"} {
		if c, _, err := ParseURL(bad, "x"); err == nil {
			t.Errorf("%s: got %+v, want an error", bad, c)
		}
	}
}
