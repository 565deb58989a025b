package dynamodb_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"muster/backends/backendtest"
	"muster/backends/dynamodb"
	"muster/internal/awstest"
	"muster/internal/proctest"
)

// A table of more than a page is read to its end, as one state: where a later
// page fails, what was known stays.
func TestPagesAreOneState(t *testing.T) {
	d, s := behind(t)
	long := strings.Repeat("x", 300_000) // a page ends after 1 MB
	for i := range 8 {
		d.Put(fmt.Sprintf("/k/%d", i), long)
	}
	r := backendtest.NewReader(t, open(t, "", nil), "/k")
	r.Until("all keys", func() bool { return len(r.Keys) == 8 })
	if pages := s.Asked("Scan"); pages < 3 {
		t.Fatalf("read in %d pages, want at least 3", pages)
	}
	s.Refuse(awstest.FailOn("ExclusiveStartKey"))
	r.Fails("InternalServerError")
	s.Refuse(nil)
	d.Delete("/k/0")
	r.Until("a key less", func() bool { return len(r.Keys) == 7 })
	r.Counts(1, 1)
}

// The original returns the item of a key and not what lies below it.
func TestAKeyAndWhatLiesBelow(t *testing.T) {
	d, _ := behind(t)
	d.Put("/web", "self")
	d.Put("/web/1", "below")
	d.Put("/webdav", "beside")
	r := backendtest.NewReader(t, open(t, "", nil), "/web")
	r.Has("/web=self /web/1=below")
}

func TestValuesThatAreNoText(t *testing.T) {
	d, _ := behind(t)
	log := new(backendtest.Logbook)
	d.PutAttribute("/k/number", &types.AttributeValueMemberN{Value: "5"})
	d.Put("/k/text", "x")
	store := open(t, "", log.Logger())
	r := backendtest.NewReader(t, store, "/k")
	other := backendtest.NewReader(t, store, "/other")
	r.Has("/k/text=x")
	r.Alive(3)
	other.Alive(3)
	const said = "Skipping key '/k/number'. 'value' is not of type 'string'."
	if n := log.Count(said); n != 1 {
		t.Errorf("logged %d times, want once: %s", n, log)
	}
	d.Put("/k/number", "5")
	r.Has("/k/number=5 /k/text=x")
	d.PutAttribute("/k/number", &types.AttributeValueMemberBOOL{Value: true})
	r.Has("/k/text=x")
	proctest.Eventually(t, "logged again", func() bool { return log.Count(said) == 2 })
}

// However many prefixes there are, and of whatever kind, the table is read once.
func TestManyPrefixesAreOneScan(t *testing.T) {
	d, s := behind(t)
	var prefixes []string
	for i := range 200 {
		prefixes = append(prefixes, fmt.Sprintf("/k%d", i))
	}
	d.Put("/k0/x", "1")
	d.Put("/k199", "1")
	d.Put("/other", "1")
	store := open(t, "", nil)
	for _, n := range []int{2, 40, 200} {
		before := s.Asked("Scan")
		c, err := store.Read(t.Context(), append(prefixes[:n-1:n-1], "/k199"))
		if got := fmt.Sprint(c.Put); err != nil || got != "[{/k0/x 1 0 0 0} {/k199 1 0 0 0}]" {
			t.Errorf("%d prefixes: got %s, %v", n, got, err)
		}
		if scans := s.Asked("Scan") - before; scans != 1 {
			t.Errorf("%d prefixes took %d scans, want 1", n, scans)
		}
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	_, s := behind(t)
	read := func(url string) string {
		store, err := dynamodb.Open(url, nil)
		if err != nil {
			return err.Error()
		}
		defer store.Close()
		err = store.Reach(t.Context())
		_, readErr := store.Read(t.Context(), []string{"/"})
		if err == nil || readErr == nil {
			return fmt.Sprint(err, readErr)
		}
		return err.Error() + "\n" + readErr.Error()
	}
	for url, want := range map[string]string{
		"dynamodb:other": `dynamodb table "other": DescribeTable: ResourceNotFoundException: Requested resource not found: Table: other not found` +
			"\n" + `dynamodb table "other": Scan: ResourceNotFoundException: Requested resource not found`,
		"dynamodb:keys?endpoint=http://127.0.0.1:1": `dynamodb table "keys": DescribeTable: dial tcp 127.0.0.1:1: connect: connection refused` +
			"\n" + `dynamodb table "keys": Scan: dial tcp 127.0.0.1:1: connect: connection refused`,
		"dynamodb:":                 `store "dynamodb:": want dynamodb:TABLE`,
		"dynamodb://host/keys":      `store "dynamodb://host/keys": want dynamodb:, without a host: region, credentials and endpoint are found as AWS's own tools do`,
		"dynamodb:keys?interval=10": `store "dynamodb:keys?interval=10": interval "10": want a time such as 30s`,
		"dynamodb:keys?regoin=x":    `store "dynamodb:keys?regoin=x": unknown parameter "regoin" (did you mean region?): want region, profile, endpoint, interval`,
	} {
		if got := read(url); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", url, got, want)
		}
	}
	s.Deny("Scan", "DescribeTable")
	if got := read("dynamodb:keys"); !strings.Contains(got, `DescribeTable: AccessDeniedException: User: arn:aws:iam::123456789012:user/confd is not authorized to perform: dynamodb:DescribeTable`) {
		t.Errorf("denied: got %s", got)
	}
}

func TestNothingGrows(t *testing.T) {
	d, s := behind(t)
	awstest.NothingGrows(t, s, open(t, "", nil), "/k", d.Put)
}
