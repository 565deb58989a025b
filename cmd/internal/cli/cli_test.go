package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// A list in the environment has commas, or lines where a value has commas itself;
// what is given on the command line replaces it.
func TestListsInTheEnvironment(t *testing.T) {
	for _, row := range []struct {
		env  string
		args []string
		want []string
	}{
		{"", nil, []string{":8080"}},
		{":80", nil, []string{":80"}},
		{":80, :81,", nil, []string{":80", ":81"}},
		{"exec:a,b\ntcp:\n", nil, []string{"exec:a,b", "tcp:"}},
		{"exec:a,b\n", nil, []string{"exec:a,b"}},
		{":80,:81", []string{"-listen", ":1", "-listen", ":2"}, []string{":1", ":2"}},
	} {
		f := NewFlags("proxy", "[flags]", "Test.")
		listen := f.List("listen", []string{":8080"}, "accept on `ADDR`")
		std := Std{Out: new(bytes.Buffer), Err: new(bytes.Buffer), Getenv: func(name string) string {
			if name != "MUSTER_LISTEN" {
				return ""
			}
			return row.env
		}}
		if _, _, code, ok := f.Parse(std, row.args); !ok || !slices.Equal(*listen, row.want) {
			t.Errorf("MUSTER_LISTEN=%q %v: got %q and code %d, want %q", row.env, row.args, *listen, code, row.want)
		}
		if given := f.Given("listen"); given != (row.env != "" || row.args != nil) {
			t.Errorf("MUSTER_LISTEN=%q %v: given is %v", row.env, row.args, given)
		}
	}
}

// Help tells of lists where there are any.
func TestHelpTellsOfLists(t *testing.T) {
	const told = "separated by commas"
	var with, without bytes.Buffer
	f := NewFlags("proxy", "[flags]", "Test.")
	f.Help(&without)
	f.List("listen", nil, "accept on `ADDR`")
	f.Help(&with)
	if strings.Contains(without.String(), told) || !strings.Contains(with.String(), told) {
		t.Errorf("without a list:\n%s\nwith one:\n%s", &without, &with)
	}
}
