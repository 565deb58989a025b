package ssm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"muster/backends"
	"muster/backends/backendtest"
	"muster/backends/ssm"
	"muster/internal/awstest"
)

func TestContract(t *testing.T) {
	for name, together := range map[string]bool{"alone": false, "together": true} {
		t.Run(name, func(t *testing.T) {
			p := awstest.NewSSM()
			s := awstest.Start(t, p)
			awstest.Setenv(t, s, awstest.Default)
			backendtest.Run(t, awstest.Contract(s, p, func() (backends.Store, error) {
				store, err := ssm.Open("ssm:?interval=50ms", nil)
				if together {
					return awstest.Together{Together: store}, err
				}
				return store, err
			}))
		})
	}
}

// A list of several pages, one of them empty, is one state: where a later page
// fails, what was known stays. The original takes what came so far, or nothing.
func TestPagesAreOneState(t *testing.T) {
	p, s, store := start(t)
	for i := range 25 {
		p.Put(fmt.Sprintf("/k/%02d", i), "x")
	}
	r := backendtest.NewReader(t, store, "/k")
	r.Until("all parameters", func() bool { return len(r.Keys) == 25 })
	if pages := s.Asked("GetParametersByPath"); pages < 5 {
		t.Fatalf("read in %d pages, want at least 5: three and two that are empty", pages)
	}
	s.Refuse(awstest.FailOn("NextToken"))
	r.Fails("ssm: GetParametersByPath: InternalServerError")
	s.Refuse(nil)
	p.Delete("/k/00")
	r.Until("a parameter less", func() bool { return len(r.Keys) == 24 })
	r.Counts(1, 1)
}

// The original asks for the parameter itself only where there is none below it.
func TestAParameterAndWhatLiesBelow(t *testing.T) {
	p, _, store := start(t)
	p.Put("/web", "self")
	p.Put("/web/1/a", "below")
	p.Put("/webdav", "beside")
	backendtest.NewReader(t, store, "/web").Has("/web=self /web/1/a=below")
	backendtest.NewReader(t, store, "/").Has("/web=self /web/1/a=below /webdav=beside")
}

// Whoever may do only one of two things gets what is to be had by it; of many who
// ask together it would be missing for those who may do both.
func TestDenied(t *testing.T) {
	p, s, store := start(t)
	p.Put("/below/1", "1")
	p.Put("/below", "0")
	p.Put("/alone", "2")
	const denied = "AccessDeniedException: User: arn:aws:iam::123456789012:user/confd is not authorized to perform: ssm:"
	for _, c := range []struct {
		denied      []string
		prefix      string
		want, wrong string
	}{
		{[]string{"GetParameter"}, "/below", "/below/1=1", ""},
		{[]string{"GetParameter"}, "/alone", "", "ssm: GetParameter: " + denied + "GetParameter"},
		{[]string{"GetParametersByPath"}, "/below", "/below=0", ""},
		{[]string{"GetParametersByPath"}, "/none", "", "ssm: GetParametersByPath: " + denied + "GetParametersByPath"},
		{[]string{"GetParametersByPath", "GetParameter"}, "/below", "", "ssm: GetParametersByPath: " + denied + "GetParametersByPath"},
		{[]string{"GetParametersByPath"}, "/", "", "ssm: GetParametersByPath: " + denied + "GetParametersByPath"},
	} {
		s.Deny(c.denied...)
		for change, err := range store.Watch(t.Context(), []string{c.prefix}) {
			keys := make(map[string]string)
			for _, kv := range change.Put {
				keys[kv.Key] = kv.Value
			}
			if got := backendtest.Text(keys); got != c.want || (err == nil) != (c.wrong == "") || err != nil && err.Error() != c.wrong {
				t.Errorf("%s without %v: got %s, %v, want %s, %s", c.prefix, c.denied, got, err, c.want, c.wrong)
			}
			break
		}
		if change, err := store.Read(t.Context(), []string{c.prefix}); !errors.Is(err, backends.ErrDenied) {
			t.Errorf("together: %s without %v: got %+v, %v, want ErrDenied", c.prefix, c.denied, change, err)
		}
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	_, s, store := start(t)
	if c, err := store.Read(t.Context(), []string{"/none"}); err != nil || !c.Full || len(c.Put) > 0 {
		t.Errorf("a path that is not there: got %+v, %v, want no keys", c, err)
	}
	s.Throttle(-1)
	if _, err := store.Read(t.Context(), []string{"/x"}); err == nil || err.Error() != "ssm: GetParametersByPath: ThrottlingException: Rate exceeded" {
		t.Errorf("throttled: got %v", err)
	}
	s.Throttle(0)
	for url, want := range map[string]string{
		"ssm:/services":  `store "ssm:/services": want ssm: alone; which keys are read is said by -prefix`,
		"ssm://h":        `store "ssm://h": want ssm:, without a host`,
		"ssm:?intervl=1": `(did you mean interval?)`,
	} {
		if _, err := ssm.Open(url, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): got %v, want an error with %s", url, err, want)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if err := open(t).Reach(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "ssm: no credentials: ") {
		t.Errorf("no credentials: got %v", err)
	}
}

func TestNothingGrows(t *testing.T) {
	p, s, store := start(t)
	awstest.NothingGrows(t, s, store, "/k", p.Put)
}
