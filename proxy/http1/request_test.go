package http1_test

import (
	"strings"
	"testing"

	"muster/proxy/http1"
)

var (
	requestLimits  = http1.Limits{Head: 32 << 10, Target: 8 << 10, Fields: http1.MaxRequestFields}
	responseLimits = http1.Limits{Head: 64 << 10, Fields: http1.MaxResponseFields}
)

// long is n bytes.
func long(n int) string { return strings.Repeat("x", n) }

// get is a request with these lines between Host and the end.
func get(lines string) string { return "GET / HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n" }

// target is a request for t.
func target(t string) string { return "GET " + t + " HTTP/1.1\r\nHost: h\r\n\r\n" }

// host is a request with that Host.
func host(h string) string { return "GET / HTTP/1.1\r\nHost: " + h + "\r\n\r\n" }

// A requestRow is a request and what is wrong with it: zero, nothing.
type requestRow struct {
	name, text string
	fault      http1.Fault
}

// requestRows are named by the RFC's section: 9112 where no other is named.
var requestRows = []requestRow{
	{"2.2 plain", get(""), 0},
	{"2.2 one empty line before", "\r\n" + get(""), 0},
	{"2.2 four empty lines before", "\r\n\r\n\r\n\r\n" + get(""), 0},
	{"2.2 five empty lines before", "\r\n\r\n\r\n\r\n\r\n" + get(""), http1.EmptyLines},
	{"2.2 bare LF before", "\n" + get(""), http1.LineEnd},
	{"2.2 bare CR before", "\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", http1.LineEnd},
	{"2.2 bare LF behind the request line", "GET / HTTP/1.1\nHost: h\r\n\r\n", http1.LineEnd},
	{"2.2 bare LF behind a field", "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", http1.LineEnd},
	{"2.2 bare LF at the end", "GET / HTTP/1.1\r\nHost: h\r\n\n", http1.LineEnd},
	{"2.2 bare CR in a value", get("A: b\rc\r\n"), http1.LineEnd},
	{"2.2 bare CR at the end of a value", get("A: b\r\r\n"), http1.LineEnd},
	{"2.2 bare CR in the request line", "GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", http1.LineEnd},
	{"2.2 CR LF CR in a name", get("A\r: b\r\n"), http1.FieldName},
	{"2.2 TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", http1.NotHTTP},
	{"2.2 TLS, one byte", "\x16", http1.NotHTTP},
	{"2.2 white space first", " GET / HTTP/1.1\r\nHost: h\r\n\r\n", http1.NotHTTP},
	{"2.2 NUL first", "\x00", http1.NotHTTP},

	{"2.3 1.0", "GET / HTTP/1.0\r\n\r\n", 0},
	{"2.3 1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", 0},
	{"2.3 1.9", "GET / HTTP/1.9\r\nHost: h\r\n\r\n", 0},
	{"2.3 2.0", "GET / HTTP/2.0\r\nHost: h\r\n\r\n", http1.OtherVersion},
	{"2.3 9.9", "GET / HTTP/9.9\r\nHost: h\r\n\r\n", http1.OtherVersion},
	{"2.3 0.9", "GET / HTTP/0.9\r\nHost: h\r\n\r\n", http1.OtherVersion},
	{"2.3 HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", http1.OtherVersion},
	{"2.3 lower case", "GET / http/1.1\r\nHost: h\r\n\r\n", http1.Version},
	{"2.3 two digits", "GET / HTTP/1.10\r\nHost: h\r\n\r\n", http1.Version},
	{"2.3 two digits before", "GET / HTTP/01.1\r\nHost: h\r\n\r\n", http1.Version},
	{"2.3 no minor", "GET / HTTP/1\r\nHost: h\r\n\r\n", http1.Version},
	{"2.3 comma", "GET / HTTP/1,1\r\nHost: h\r\n\r\n", http1.Version},
	{"2.3 sign", "GET / HTTP/+1.1\r\nHost: h\r\n\r\n", http1.Version},
	{"2.3 no slash", "GET / HTTP1.1\r\nHost: h\r\n\r\n", http1.Version},
	{"2.3 another protocol", "GET / ICAP/1.0\r\nHost: h\r\n\r\n", http1.Version},

	{"3 HTTP/0.9", "GET /\r\n", http1.RequestLine},
	{"3 no target", "GET HTTP/1.1\r\nHost: h\r\n\r\n", http1.RequestLine},
	{"3 only a method", "GET\r\n\r\n", http1.RequestLine},
	{"3 two spaces before the target", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", http1.TargetByte},
	{"3 two spaces and nothing", "GET  HTTP/1.1\r\nHost: h\r\n\r\n", http1.RequestLine},
	{"3 two spaces before the version", "GET /  HTTP/1.1\r\nHost: h\r\n\r\n", http1.TargetByte},
	{"3 space behind the version", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n", http1.Version},
	{"3 tab", "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", http1.Method},
	{"3 tab before the version", "GET /\tHTTP/1.1\r\nHost: h\r\n\r\n", http1.RequestLine},
	{"3 space in the target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", http1.TargetByte},
	{"3 vertical tab", "GET /\vHTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n", http1.TargetByte},
	{"3.1 lower case method", "get / HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"3.1 unknown method", "M-SEARCH / HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"3.1 method no token", "GE(T / HTTP/1.1\r\nHost: h\r\n\r\n", http1.Method},
	{"3.1 method of 64 bytes", long(64) + " / HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"3.1 method of 65 bytes", long(65) + " / HTTP/1.1\r\nHost: h\r\n\r\n", http1.MethodLong},
	{"9110 9.3.6 CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", http1.MethodDenied},
	{"9110 9.3.6 CONNECT a path", "CONNECT / HTTP/1.1\r\nHost: a:80\r\n\r\n", http1.MethodDenied},
	{"9110 9.3.8 TRACE", "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"9110 9.3.8 TRACK", "TRACK / HTTP/1.1\r\nHost: h\r\n\r\n", 0},

	{"3.2.1 everything a path may have", target("/a%2Fb%2fc;d=e,f/!$&'()*+=:@~-._|^`{}\"<>//"), 0},
	{"3.2.1 everything a query may have", target("/?a=%zz&b;c\\d?/..&%00"), 0},
	{"3.2.1 empty query", target("/?"), 0},
	{"3.2.1 two slashes", target("//a//b"), 0},
	{"3.2.1 fragment", target("/a#b"), http1.TargetByte},
	{"3.2.1 fragment behind the query", target("/a?b#c"), http1.TargetByte},
	{"3.2.1 backslash", target("/a\\b"), http1.TargetByte},
	{"3.2.1 NUL", target("/a\x00b"), http1.TargetByte},
	{"3.2.1 DEL", target("/a\x7fb"), http1.TargetByte},
	{"3.2.1 8 bits", target("/\xff"), http1.TargetByte},
	{"3.2.1 8 bits in the query", target("/?\x80"), http1.TargetByte},
	{"3.2.1 bad escape", target("/%zz"), http1.TargetEscape},
	{"3.2.1 cut escape", target("/a%2"), http1.TargetEscape},
	{"3.2.1 cut escape before the query", target("/a%2?f"), http1.TargetEscape},
	{"3.2.1 escaped NUL", target("/a%00b"), http1.TargetEscape},
	{"3.2.1 escaped line feed", target("/a%0d%0ab"), 0},
	{"3.2.1 dot", target("/a/./b"), http1.TargetDots},
	{"3.2.1 dots", target("/a/../b"), http1.TargetDots},
	{"3.2.1 dots at the end", target("/a/.."), http1.TargetDots},
	{"3.2.1 dot alone", target("/."), http1.TargetDots},
	{"3.2.1 escaped dots", target("/a/%2e%2E/b"), http1.TargetDots},
	{"3.2.1 half escaped dots", target("/a/.%2e/b"), http1.TargetDots},
	{"3.2.1 dots with a parameter", target("/a/..;x/b"), http1.TargetDots},
	{"3.2.1 escaped dot with a parameter", target("/%2e;x"), http1.TargetDots},
	{"3.2.1 dots before the query", target("/..?a"), http1.TargetDots},
	{"3.2.1 three dots", target("/..."), 0},
	{"3.2.1 dots of names", target("/.a/b..;c/..d/e."), 0},
	{"3.2.1 dots in the query", target("/a?/../b"), 0},
	{"3.2.2 absolute", target("http://h/a"), 0},
	{"3.2.2 absolute, upper case, port", target("HTTP://H:80/a"), 0},
	{"3.2.2 absolute https, port", "GET https://h/a HTTP/1.1\r\nHost: h:443\r\n\r\n", 0},
	{"3.2.2 absolute without a path", target("http://h"), 0},
	{"3.2.2 absolute, query only", target("http://h?a"), 0},
	{"3.2.2 absolute OPTIONS", "OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"3.2.2 absolute in HTTP/1.0 without Host", "GET http://h/a HTTP/1.0\r\n\r\n", 0},
	{"3.2.2 absolute without Host", "GET http://h/a HTTP/1.1\r\n\r\n", http1.HostMissing},
	{"3.2.2 absolute, another Host", target("http://other/a"), http1.TargetAnother},
	{"3.2.2 absolute, another port", target("http://h:81/a"), http1.TargetAnother},
	{"3.2.2 absolute, port of the other scheme", target("http://h:443/a"), http1.TargetAnother},
	{"3.2.2 another scheme", target("ftp://h/a"), http1.TargetForm},
	{"3.2.2 no authority", target("http:///a"), http1.TargetForm},
	{"3.2.2 user", target("http://u@h/a"), http1.TargetForm},
	{"3.2.2 bad port", target("http://h:x/a"), http1.TargetForm},
	{"3.2.2 one slash", target("http:/h/a"), http1.TargetForm},
	{"3.2.2 fragment", target("http://h#a"), http1.TargetByte},
	{"3.2.2 dots", target("http://h/../a"), http1.TargetDots},
	{"3.2.3 authority", target("h:80"), http1.TargetForm},
	{"3.2.3 no slash", target("a/b"), http1.TargetForm},
	{"3.2.3 query only", target("?a"), http1.TargetForm},
	{"3.2.4 asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 0},
	{"3.2.4 asterisk of GET", target("*"), http1.TargetForm},
	{"3.2.4 asterisk and more", "OPTIONS *a HTTP/1.1\r\nHost: h\r\n\r\n", http1.TargetForm},

	{"3.2 no Host", "GET / HTTP/1.1\r\n\r\n", http1.HostMissing},
	{"3.2 no Host in HTTP/1.0", "GET / HTTP/1.0\r\nA: b\r\n\r\n", 0},
	{"3.2 two Hosts", get("Host: h\r\n"), http1.HostTwice},
	{"3.2 two Hosts, far", get("A: b\r\nhOST: other\r\n"), http1.HostTwice},
	{"3.2 two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", http1.HostTwice},
	{"3.2 empty Host", host(""), http1.HostValue},
	{"3.2 port", host("h:8080"), 0},
	{"3.2 empty port", host("h:"), 0},
	{"3.2 largest port", host("h:65535"), 0},
	{"3.2 larger port", host("h:65536"), http1.HostValue},
	{"3.2 no port", host("h:x"), http1.HostValue},
	{"3.2 only a port", host(":80"), http1.HostValue},
	{"3.2 two colons", host("h:80:80"), http1.HostValue},
	{"3.2 underscore", host("a_b.C-d~e"), 0},
	{"3.2 IPv4", host("127.0.0.1:80"), 0},
	{"3.2 IPv6", host("[::1]:80"), 0},
	{"3.2 IPv6, whole", host("[1:2:3:4:5:6:7:8]"), 0},
	{"3.2 IPv6, IPv4 in it", host("[::ffff:1.2.3.4]"), 0},
	{"3.2 IPv6, nine groups", host("[1:2:3:4:5:6:7:8:9]"), http1.HostValue},
	{"3.2 IPv6, twice short", host("[1::2::3]"), http1.HostValue},
	{"3.2 IPv6, zone", host("[fe80::1%25eth0]"), http1.HostValue},
	{"3.2 IPv6, open", host("[::1"), http1.HostValue},
	{"3.2 IPv6, more behind it", host("[::1]x"), http1.HostValue},
	{"3.2 IPv6, bad IPv4", host("[::1.2.3.256]"), http1.HostValue},
	{"3.2 path", host("h/a"), http1.HostValue},
	{"3.2 user", host("u@h"), http1.HostValue},
	{"3.2 space", host("h h"), http1.HostValue},
	{"3.2 list", host("h, h"), http1.HostValue},
	{"3.2 escape", host("h%41"), http1.HostValue},
	{"3.2 255 bytes", host(long(255)), 0},
	{"3.2 256 bytes", host(long(256)), http1.HostValue},

	{"5 no space", get("A:b\r\n"), 0},
	{"5 much white space", get("A: \t b \t \r\n"), 0},
	{"5 empty value", get("A:\r\n"), 0},
	{"5 8 bits", get("A: \x80\xff\r\n"), 0},
	{"5 tab inside", get("A: b\tc\r\n"), 0},
	{"5 every symbol", get("!#$%&'*+-.^`|~09Az: b\r\n"), 0},
	{"5 NUL", get("A: b\x00c\r\n"), http1.FieldValue},
	{"5 escape byte", get("A: b\x1bc\r\n"), http1.FieldValue},
	{"5 DEL", get("A: b\x7fc\r\n"), http1.FieldValue},
	{"5 empty name", get(": b\r\n"), http1.FieldName},
	{"5 no colon", get("A\r\n"), http1.FieldColon},
	{"5 no colon, space", get("A b\r\n"), http1.FieldColon},
	{"5.1 space before the colon", get("A : b\r\n"), http1.FieldColon},
	{"5.1 tab before the colon", get("A\t: b\r\n"), http1.FieldColon},
	{"5.1 name no token", get("A(: b\r\n"), http1.FieldName},
	{"5.1 8 bits in a name", get("\x80A: b\r\n"), http1.FieldName},
	{"5.2 folded", get("A: b\r\n c\r\n"), http1.FieldFolded},
	{"5.2 folded with a tab", get("A: b\r\n\tc\r\n"), http1.FieldFolded},
	{"5.2 white space before the first", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", http1.FieldFolded},
	{"5.2 a line of white space", get(" \r\n"), http1.FieldFolded},

	{"6.1 chunked", get("Transfer-Encoding: chunked\r\n"), 0},
	{"6.1 chunked, any case", get("transfer-encoding:\tChUnKeD \r\n"), 0},
	{"6.1 twice", get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), http1.Coding},
	{"6.1 twice, one empty", get("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"), http1.Coding},
	{"6.1 empty", get("Transfer-Encoding:\r\n"), http1.Coding},
	{"6.1 identity", get("Transfer-Encoding: identity\r\n"), http1.Coding},
	{"6.1 comma behind", get("Transfer-Encoding: chunked,\r\n"), http1.Coding},
	{"6.1 comma before", get("Transfer-Encoding: , chunked\r\n"), http1.Coding},
	{"6.1 chunked twice", get("Transfer-Encoding: chunked, chunked\r\n"), http1.Coding},
	{"6.1 xchunked", get("Transfer-Encoding: xchunked\r\n"), http1.Coding},
	{"6.1 chunked and a word", get("Transfer-Encoding: chunked x\r\n"), http1.Coding},
	{"6.1 quoted", get("Transfer-Encoding: \"chunked\"\r\n"), http1.Coding},
	{"6.1 parameter", get("Transfer-Encoding: chunked;q=1\r\n"), http1.Coding},
	{"6.1 vertical tab", get("Transfer-Encoding: \vchunked\r\n"), http1.FieldValue},
	{"6.1 no-break space", get("Transfer-Encoding: \xa0chunked\r\n"), http1.Coding},
	{"6.1 gzip last", get("Transfer-Encoding: chunked, gzip\r\n"), http1.Coding},
	{"6.1 gzip, chunked", get("Transfer-Encoding: gzip, chunked\r\n"), http1.CodingUnknown},
	{"6.1 HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", http1.CodingVersion},
	{"6.2 length", get("Content-Length: 5\r\n"), 0},
	{"6.2 length 0", get("Content-Length: 0\r\n"), 0},
	{"6.2 leading zeros", get("Content-Length:0005\r\n"), 0},
	{"6.2 largest", get("Content-Length: 9223372036854775807\r\n"), 0},
	{"6.2 larger", get("Content-Length: 9223372036854775808\r\n"), http1.Length},
	{"6.2 much larger", get("Content-Length: 18446744073709551621\r\n"), http1.Length},
	{"6.2 empty", get("Content-Length:\r\n"), http1.Length},
	{"6.2 sign", get("Content-Length: +5\r\n"), http1.Length},
	{"6.2 minus", get("Content-Length: -5\r\n"), http1.Length},
	{"6.2 hex", get("Content-Length: 0x5\r\n"), http1.Length},
	{"6.2 underscore", get("Content-Length: 1_0\r\n"), http1.Length},
	{"6.2 fraction", get("Content-Length: 5.0\r\n"), http1.Length},
	{"6.2 words", get("Content-Length: 5 5\r\n"), http1.Length},
	{"6.2 list", get("Content-Length: 5, 5\r\n"), http1.Length},
	{"6.2 other digits", get("Content-Length: \xd9\xa5\r\n"), http1.Length},
	{"6.3 twice, equal", get("Content-Length: 5\r\nContent-Length: 5\r\n"), http1.LengthTwice},
	{"6.3 twice, different", get("Content-Length: 5\r\nContent-length: 6\r\n"), http1.LengthTwice},
	{"6.3 both", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), http1.LengthAndCoded},
	{"6.3 both, the other way", get("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), http1.LengthAndCoded},
	{"6.3 both, bad coding", get("Transfer-Encoding: x\r\nContent-Length: 5\r\n"), http1.LengthAndCoded},
	{"6.3 both, bad length", get("Transfer-Encoding: chunked\r\nContent-Length: x\r\n"), http1.LengthAndCoded},
	{"6.3 both in HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", http1.LengthAndCoded},
	{"6.3 named by Connection", get("Content-Length: 5\r\nConnection: Content-Length\r\n"), 0},
	{"6.3 body of GET", get("Content-Length: 1\r\n") + "x", 0},

	{"9110 7.6.1 32 names", get("Connection: " + strings.Repeat("a, ,", 32) + "\r\n"), 0},
	{"9110 7.6.1 33 names", get("Connection: " + strings.Repeat("a,", 20) + "\r\nConnection:" + strings.Repeat("a,", 13) + "\r\n"), http1.Nominations},
	{"9110 10.1.1 100-continue", get("Expect: 100-Continue\r\nContent-Length: 1\r\n"), 0},
	{"9110 10.1.1 something else", get("Expect: 200-ok\r\nContent-Length: 1\r\n"), http1.Expectation},
	{"9110 10.1.1 twice", get("Expect: 100-continue\r\nExpect: 100-continue\r\n"), http1.Expectation},
	{"9110 10.1.1 more", get("Expect: 100-continue, x\r\n"), http1.Expectation},

	{"limits target", target("/" + long(8<<10-1)), 0},
	{"limits longer target", target("/" + long(8<<10)), http1.TargetLong},
	{"limits endless target", "GET /" + long(9<<10), http1.TargetLong},
	{"limits endless method", long(9 << 10), http1.TargetLong},
	{"limits head", get("A: " + long(32<<10-len(get("A: \r\n"))) + "\r\n"), 0},
	{"limits larger head", get("A: " + long(32<<10-len(get("A: \r\n"))+1) + "\r\n"), http1.HeadTooLarge},
	{"limits endless head", "GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 100) + "A: " + long(32<<10), http1.HeadTooLarge},
	{"limits fields", get(strings.Repeat("A: b\r\n", 127)), 0},
	{"limits one field more", get(strings.Repeat("A: b\r\n", 128)), http1.ManyFields},
}

func TestRequest(t *testing.T) {
	var r http1.Request
	for _, row := range requestRows {
		r.Reset()
		n, f := r.Parse([]byte(row.text), requestLimits)
		if f != row.fault || f == 0 && n == 0 {
			t.Errorf("%s: %d, %v, want %v", row.name, n, f, row.fault)
		}
		if f != 0 && (f.Status() < 400 || f.Kind() == "" || !strings.HasSuffix(f.Reason(), ".")) {
			t.Errorf("%s: fault %d has status %d, kind %q, reason %q", row.name, f, f.Status(), f.Kind(), f.Reason())
		}
	}
}

// Each byte that a target, a value or a name can't have is found at every
// offset: words of eight bytes are looked at at once.
func TestForbiddenBytes(t *testing.T) {
	var r http1.Request
	verdict := func(text string) http1.Fault {
		r.Reset()
		_, f := r.Parse([]byte(text), requestLimits)
		return f
	}
	for at := range 24 {
		for b := range 256 {
			c := string([]byte{byte(b)})
			text := long(at) + c + long(24-at)
			control := b < ' ' || b == 0x7f
			if got, want := verdict(target("/"+text)) != 0, control || b > 0x7f || strings.Contains(" #\\%", c); got != want {
				t.Errorf("target with %q at %d: refused %v, want %v", c, at, got, want)
			}
			if got, want := verdict(get("A: "+text+"\r\n")) != 0, control && b != '\t'; got != want {
				t.Errorf("value with %q at %d: refused %v, want %v", c, at, got, want)
			}
			token := b == ':' && at > 0 || strings.Contains("!#$%&'*+-.^_`|~", c) || '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
			if got := verdict(get(text+": b\r\n")) == 0; got != token {
				t.Errorf("name with %q at %d: taken %v, want %v", c, at, got, token)
			}
		}
	}
}

// What a request says, beside being right.
func TestRequestSays(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       string
	}{
		{"plain", get(""), "GET / h none"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "GET /  none 1.0 close"},
		{"HTTP/1.0, kept", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET /  none 1.0 keep-alive"},
		{"HTTP/1.0, kept and closed", "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET /  none 1.0 close"},
		{"close", get("Connection: x,CLOSE\r\n"), "GET / h none close"},
		{"close in the second line", get("Connection: x\r\nConnection: close\r\n"), "GET / h none close"},
		{"closed", get("Connection: closed\r\n"), "GET / h none"},
		{"length", get("Content-Length: 012\r\n"), "GET / h 12"},
		{"length 0", get("Content-Length: 0\r\n"), "GET / h 0"},
		{"chunked", get("Transfer-Encoding: Chunked\r\n"), "GET / h chunked"},
		{"query", target("/a?b"), "GET /a h none"},
		{"absolute", "GET http://H.x:80/a?b HTTP/1.1\r\nHost: h.x\r\n\r\n", "GET /a H.x:80 none"},
		{"absolute without a path", target("http://h"), "GET  h none"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * h none asterisk"},
		{"absolute asterisk", "OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS  h none asterisk"},
		{"last OPTIONS", "OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", "OPTIONS / h none final"},
		{"TRACE", "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", "TRACE / h none trace"},
		{"last TRACE", "TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", "TRACE / h none final trace"},
		{"last GET", get("Max-Forwards: 0\r\n"), "GET / h none"},
		{"expect", get("Expect: 100-continue\r\nContent-Length: 1\r\n"), "GET / h 1 expect"},
		{"expect, chunked", get("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"), "GET / h chunked expect"},
		{"expect without a body", get("Expect: 100-continue\r\n"), "GET / h none"},
		{"expect with length 0", get("Expect: 100-continue\r\nContent-Length: 0\r\n"), "GET / h 0"},
		{"expect in HTTP/1.0", "GET / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "GET /  1 1.0 close"},
		{"trailers", get("TE: gzip, Trailers\r\n"), "GET / h none trailers"},
		{"trailers, weighed", get("TE: Trailers ;q=0.5\r\n"), "GET / h none trailers"},
		{"xtrailers", get("TE: xtrailers\r\n"), "GET / h none"},
		{"upgrade", get("Connection: a, Upgrade\r\nUpgrade: WebSocket\r\n"), "GET / h none upgrade"},
		{"upgrade not named", get("Upgrade: websocket\r\n"), "GET / h none"},
		{"upgrade to something else", get("Connection: upgrade\r\nUpgrade: h2c\r\n"), "GET / h none"},
		{"upgrade to two", get("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"), "GET / h none"},
		{"upgrade twice", get("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n"), "GET / h none"},
		{"upgrade with a body", get("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n"), "GET / h 0"},
		{"upgrade of POST", "POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "POST / h none"},
		{"upgrade in HTTP/1.0", "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET /  none 1.0 close"},
	} {
		var r http1.Request
		buf := []byte(tt.text)
		if n, f := r.Parse(buf, requestLimits); f != 0 || n != len(buf) {
			t.Errorf("%s: %d, %v", tt.name, n, f)
			continue
		}
		if got := says(&r, buf); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
