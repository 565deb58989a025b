package backends_test

import (
	"slices"
	"testing"

	"muster/backends"
)

func TestUnder(t *testing.T) {
	for _, test := range []struct {
		prefix, key string
		want        bool
	}{
		{"/services", "/services", true},
		{"/services", "/services/web/1", true},
		{"/services/", "/services/web/1", true},
		{"/services/", "/services", true},
		{"/services", "/services-old/web", false},
		{"/services", "/servicesx", false},
		{"/services", "/services.x/y", false},
		{"/services", "/service", false},
		{"/services", "services/web", false},
		{"services", "services/web", true},
		{"", "/any", true},
		{"/", "/any", true},
		{"/", "any", true},
		{"", "", true},
	} {
		if got := backends.Under(test.prefix, test.key); got != test.want {
			t.Errorf("Under(%q, %q): got %v, want %v", test.prefix, test.key, got, test.want)
		}
	}
}

func TestUnderAny(t *testing.T) {
	prefixes := []string{"/a", "/b"}
	for _, test := range []struct {
		name     string
		match    func(prefix, key string) bool
		prefixes []string
		key      string
		want     bool
	}{
		{"by element", nil, prefixes, "/b/1", true},
		{"by element, a neighbour", nil, prefixes, "/bx", false},
		{"by string", backends.HasPrefix, prefixes, "/bx", true},
		{"of none", nil, nil, "/a", false},
	} {
		if got := backends.UnderAny(test.match, test.prefixes, test.key); got != test.want {
			t.Errorf("%s: UnderAny(%q, %q): got %v, want %v", test.name, test.prefixes, test.key, got, test.want)
		}
	}
}

func TestOutermost(t *testing.T) {
	for _, c := range []struct{ prefixes, want []string }{
		{nil, nil},
		{[]string{"/a", "/b"}, []string{"/a", "/b"}},
		{[]string{"/a/b", "/a", "/ab", "/a/", "/a"}, []string{"/a", "/ab"}},
		{[]string{"/a", "/", ""}, []string{"/"}},
	} {
		if got := backends.Outermost(c.prefixes); !slices.Equal(got, c.want) {
			t.Errorf("Outermost(%q): got %q, want %q", c.prefixes, got, c.want)
		}
	}
}
