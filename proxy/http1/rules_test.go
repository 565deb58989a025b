package http1_test

import (
	"strings"
	"testing"

	"muster/proxy/http1"
)

// loose are rules by which as much as possible passes.
var loose = &http1.Rules{
	Dots: true, Underscores: http1.AllowUnderscores, Drop: []string{"X-Secret"}, Trusted: true, Style: http1.Both, Via: "edge1",
}

// by is the head that goes to an endpoint for fields, by rules; a field a line.
func by(t *testing.T, rules http1.Rules, fields ...string) string {
	t.Helper()
	text := "GET / HTTP/1.1\r\nHost: a.test\r\n" + strings.Join(append(fields, "", ""), "\r\n")
	r := http1.Request{Rules: &rules}
	r.Reset()
	n, f := r.Parse([]byte(text), requestLimits)
	if f != 0 {
		return f.Error()
	}
	if n != len(text) {
		t.Fatalf("%q: %d bytes parsed", text, n)
	}
	head := string(r.AppendHead(nil, []byte(text), hop))
	head = strings.TrimPrefix(head, "GET / HTTP/1.1\r\nHost: a.test\r\n")
	return strings.ReplaceAll(strings.TrimSuffix(head, "X-Request-Id: id\r\n\r\n"), "\r\n", "|")
}

func TestRules(t *testing.T) {
	const (
		us     = "X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: http|X-Forwarded-Host: a.test|"
		others = "X-Forwarded-Proto: http|X-Forwarded-Host: a.test|"
		our    = "for=192.0.2.1;host=a.test;proto=http;by=_muster|"
	)
	trusted := http1.Rules{Trusted: true}
	for _, row := range []struct {
		name  string
		rules http1.Rules
		field string // several by \n
		want  string
	}{
		{"underscore dropped", http1.Rules{Via: "v"}, "A_B: 1\nA: 2", "A: 2|" + us + "Via: 1.1 v|"},
		{"underscore refused", http1.Rules{Underscores: http1.RejectUnderscores}, "A_B: 1", http1.FieldUnderscore.Error()},
		{"underscore allowed", http1.Rules{Underscores: http1.AllowUnderscores}, "A_B: 1\nX_Forwarded_Foo: 1\nTransfer_Encoding: chunked\nHOST_: b", "A_B: 1|HOST_: b|" + us},
		{"listed", http1.Rules{Drop: []string{"x-One"}}, "X-one: 1\nX.One: 2\nx-onE2: 3\nProxy: 4", "x-onE2: 3|Proxy: 4|" + us},
		{"listed, with its alias", http1.Rules{Drop: []string{"X-One"}, Underscores: http1.AllowUnderscores}, "X_ONE: 1\nX!one: 2", us},
		{"nothing listed", http1.Rules{Drop: []string{}}, "Proxy: 1\nX-Original-URL: /b\nX.Original.URL: /c", "Proxy: 1|X-Original-URL: /b|" + us},
		{"nominated, in spite of the list", http1.Rules{Drop: []string{}}, "Connection: proxy, b\nProxy: 1\nB: 2", us},
		{"default list beside other rules", http1.Rules{Dots: true}, "Proxy: 1\nX-Rewrite-URL: /", us},

		{"trusted says nothing", trusted, "A: 1", "A: 1|" + us},
		{"list", trusted, "X-Forwarded-For: 1.1.1.1,2.2.2.2\nX-Forwarded-For: ,  unknown ,", "X-Forwarded-For: 1.1.1.1, 2.2.2.2, unknown, 192.0.2.1|" + others},
		{"list that was nominated", trusted, "Connection: X-Forwarded-For, X-Real-IP\nX-Forwarded-For: 1.1.1.1\nX-Real-IP: 1.1.1.1", "X-Real-IP: 1.1.1.1|X-Forwarded-For: 1.1.1.1, 192.0.2.1|" + others},
		{"proto and host", trusted, "X-Forwarded-Proto: HTTPS\nX-Forwarded-Host: [::1]:8", "X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: HTTPS|X-Forwarded-Host: [::1]:8|"},
		{"kept", trusted, "X-Forwarded-Port: 443\nX-Forwarded-Prefix: /a/b%20c\nX-Real-IP: ::1", "X-Forwarded-Port: 443|X-Forwarded-Prefix: /a/b%20c|X-Real-IP: ::1|" + us},
		{"not kept", trusted, "X-Forwarded-Port: 65536\nX-Forwarded-Prefix: a\nX-Real-IP: 1.1.1.1, 2.2.2.2\nX-Forwarded-Proto: a\nX-Forwarded-Host: a b", us},
		{"twice", trusted, "X-Forwarded-Port: 443\nX-Forwarded-Port: 443\nX-Real-IP: ::1\nx-real-ip: ::1", us},
		{"never kept", trusted, "X-Client-IP: 1.1.1.1\nTrue-Client-IP: 1.1.1.1\nX-Forwarded-Foo: 1\nX.Forwarded.For: 1\nForwarded: for=1.1.1.1", us},
		{"of strangers", http1.Rules{Style: http1.Both}, "Forwarded: for=1.1.1.1\nX-Forwarded-For: 1.1.1.1\nX-Real-IP: ::1\nX-Forwarded-Host: b", us + "Forwarded: " + our},

		{"element", http1.Rules{Trusted: true, Style: http1.RFC7239}, "Forwarded: for=1.1.1.1;By=x, For=\"[::1]:80\"\nX-Forwarded-For: 1\nX-Real-IP: ::1", "Forwarded: for=1.1.1.1;By=x, For=\"[::1]:80\", " + our},
		{"several lines", http1.Rules{Trusted: true, Style: http1.RFC7239}, "Forwarded: for=1.1.1.1\nForwarded: ;", "Forwarded: for=1.1.1.1, ;, " + our},
		{"one line of several is none", http1.Rules{Trusted: true, Style: http1.RFC7239}, "Forwarded: for=1.1.1.1\nForwarded: for=\"\nForwarded: for=2", "Forwarded: " + our},

		{"via", http1.Rules{Via: "edge1"}, "Connection: via\nVia: 1.0 fred (a, edge1), HTTP/1.1 edge10", "Via: 1.0 fred (a, edge1), HTTP/1.1 edge10|" + us + "Via: 1.1 edge1|"},
		{"no via", http1.Rules{Dots: true}, "Via: 1.0 fred", "Via: 1.0 fred|" + us},
	} {
		if got := by(t, row.rules, strings.Split(row.field, "\n")...); got != row.want {
			t.Errorf("%s: got\n%s, want\n%s", row.name, got, row.want)
		}
	}
}

// Of a long list the members are kept that were written last, whole.
func TestForwardedForIsCapped(t *testing.T) {
	var list []string
	for range 500 {
		list = append(list, "10.9.9.9")
	}
	got := by(t, http1.Rules{Trusted: true}, "X-Forwarded-For: "+strings.Join(list, ", "), "X-Forwarded-For: 10.0.0.1")
	line, _, _ := strings.Cut(got, "|")
	value := strings.TrimPrefix(line, "X-Forwarded-For: ")
	members := strings.Split(value, ", ")
	if n := len(members); len(value) > 4096 || len(value) < 4096-len("10.9.9.9, ") || members[0] != "10.9.9.9" || members[n-2] != "10.0.0.1" || members[n-1] != hop.Client {
		t.Errorf("%d bytes, %q to %q, want the last members in 4096", len(value), members[0], members[n-2:])
	}
}

func TestLooped(t *testing.T) {
	for line, want := range map[string]bool{
		"1.1 edge1": true, "1.1 EDGE1": true, "HTTP/1.1 edge1 (x)": true, "1.0 fred (a, b), 1.1 edge1": true, "1.1\tedge1,": true, "1.1 edge1(x)": true,
		"1.0 a (\\), (b)), 1.1 edge1": true,
		"1.1 edge10":                  false, "edge1": false, "1.1 a edge1": false, "1.1 a (1.1 edge1, 1.1 edge1)": false, "1.1 a (, 1.1 edge1": false, "": false, "edge1 1.1": false,
	} {
		text := []byte("GET / HTTP/1.1\r\nHost: a\r\nVia: " + line + "\r\n\r\n")
		r := http1.Request{Rules: &http1.Rules{Via: "edge1"}}
		if _, f := r.Parse(text, requestLimits); f != 0 || r.Looped != want {
			t.Errorf("Via: %s: looped %t, fault %v, want %t", line, r.Looped, f, want)
		}
	}
}

func TestHops(t *testing.T) {
	many := strings.Repeat("9.9.9.9, ", 40)
	for _, row := range []struct {
		style http1.Style
		field string // several by \n
		want  string
	}{
		{http1.XForwarded, "X-Forwarded-For: 1.1.1.1 ,, 2.2.2.2\nForwarded: for=3\nX-Forwarded-For: [::1]:4", "1.1.1.1 2.2.2.2 [::1]:4"},
		{http1.Both, "Forwarded: for=3\nX-Forwarded-For: 1", "1"},
		{http1.RFC7239, "X-Forwarded-For: 1\nForwarded: proto=http;for=3, FOR=\"[::1]:4\" ; a=b,by=x", "3 [::1]:4 "},
		{http1.RFC7239, "Forwarded: for=3, for=\"", ""},
		{http1.XForwarded, "X-Forwarded-For: 1.1.1.1, " + many + "2.2.2.2", many[:31*len("9.9.9.9, ")] + "2.2.2.2"},
	} {
		text := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + strings.ReplaceAll(row.field, "\n", "\r\n") + "\r\n\r\n")
		r := http1.Request{Rules: &http1.Rules{Trusted: true, Style: row.style}}
		if _, f := r.Parse(text, requestLimits); f != 0 {
			t.Fatal(f)
		}
		var hops [http1.MaxHops]http1.Span
		var got []string
		for _, h := range hops[:r.Hops(text, &hops)] {
			got = append(got, string(h.In(text)))
		}
		if all := strings.Join(got, " "); all != strings.ReplaceAll(row.want, ", ", " ") {
			t.Errorf("%s: %q, want %q", row.field, all, row.want)
		}
	}
}

func TestAppendResolved(t *testing.T) {
	for path, want := range map[string]string{
		"/a/../b": "/b", "/./": "/", "/..": "/", "/../..": "/", "/a/.": "/a/", "/a/b/..": "/a/", "/%2e%2E/a": "/a", "/..;x/a": "/a",
		"/a//../b": "/a/b", "//..": "/", "/.../a": "/.../a", "/a/b/../../c/": "/c/", "": "",
	} {
		if got := string(http1.AppendResolved([]byte("x"), []byte(path))); got != "x"+want {
			t.Errorf("%s: %s, want %s", path, got[1:], want)
		}
	}
}

func TestPrefersHTML(t *testing.T) {
	for accept, want := range map[string]bool{
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true,
		"text/html": true, "TEXT/HTML;level=1; Q=0.5": true, "text/plain;q=0.5, text/html;q=0.501": true, "*/*;q=0.1, text/html;q=0.2": true,
		"": false, "*/*": false, "text/*": false, "text/html;q=0": false, "text/html;q=0.5, */*": false, "text/html, text/plain": false,
		"application/json": false, "text/html;q=2": false, "text/html;q=.5": false, "text/html;q=0.x": false,
	} {
		text := []byte("GET / HTTP/1.1\r\nHost: a\r\nAccept: " + accept + "\r\n\r\n")
		var r http1.Request
		if _, f := r.Parse(text, requestLimits); f != 0 || r.PrefersHTML(text) != want {
			t.Errorf("Accept: %s: %t, fault %v, want %t", accept, !want, f, want)
		}
	}
}

// Trailers follow the rules of fields.
func TestRulesOfTrailers(t *testing.T) {
	const text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: A_B, X-Secret, X_Secret, Content_Length, Via, C\r\n\r\n"
	for name, row := range map[string]struct {
		rules *http1.Rules
		want  string
	}{
		"none":  {nil, "X-Secret, C"},
		"loose": {loose, "A_B, C"},
	} {
		r := http1.Request{Rules: row.rules}
		r.Reset()
		if _, f := r.Parse([]byte(text), requestLimits); f != 0 {
			t.Fatal(f)
		}
		if got := string(r.AppendAnnounced(nil, []byte(text))); got != row.want {
			t.Errorf("%s: announced %q, want %q", name, got, row.want)
		}
	}
}
