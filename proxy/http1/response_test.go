package http1_test

import (
	"strings"
	"testing"

	"muster/proxy/http1"
)

// A responseRow is an answer, what it says, and what is wrong with it.
type responseRow struct {
	name, text string
	says       string
	fault      http1.Fault
}

func ok(lines string) string { return "HTTP/1.1 200 OK\r\n" + lines + "\r\n" }

// responseRows are named by the RFC's section: 9112 where no other is named.
var responseRows = []responseRow{
	{"4 plain", ok("Content-Length: 5\r\n"), `200 "OK" sized 5`, 0},
	{"4 HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", `200 "OK" sized 5 1.0 close`, 0},
	{"4 HTTP/1.0, kept", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", `200 "OK" sized 5 1.0`, 0},
	{"4 no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", `200 "" sized 0`, 0},
	{"4 no reason, no space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", `200 "" sized 0`, 0},
	{"4 odd status", "HTTP/1.1 999 \x80\t!\r\nContent-Length: 0\r\n\r\n", `999 "\x80\t!" sized 0`, 0},
	{"4 HTTP/1.2", "HTTP/1.2 200 OK\r\n\r\n", "", http1.StatusLine},
	{"4 HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", "", http1.StatusLine},
	{"4 lower case", "http/1.1 200 OK\r\n\r\n", "", http1.StatusLine},
	{"4 no HTTP", "SSH-2.0-OpenSSH_9.9", "", http1.StatusLine},
	{"4 empty line before", "\r\n" + ok(""), "", http1.StatusLine},
	{"4 two digits", "HTTP/1.1 20 OK\r\n\r\n", "", http1.StatusLine},
	{"4 four digits", "HTTP/1.1 2000 OK\r\n\r\n", "", http1.StatusLine},
	{"4 below 100", "HTTP/1.1 099 OK\r\n\r\n", "", http1.StatusLine},
	{"4 sign", "HTTP/1.1 +20 OK\r\n\r\n", "", http1.StatusLine},
	{"4 two spaces", "HTTP/1.1  200 OK\r\n\r\n", "", http1.StatusLine},
	{"4 tab", "HTTP/1.1\t200 OK\r\n\r\n", "", http1.StatusLine},
	{"4 short", "HTTP/1.1\r\n\r\n", "", http1.StatusLine},
	{"4 bare CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n", "", http1.LineEnd},
	{"4 NUL in the reason", "HTTP/1.1 200 O\x00K\r\n\r\n", "", http1.LineEnd},
	{"2.2 bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", "", http1.LineEnd},
	{"2.2 bare LF behind a field", ok("A: b\n"), "", http1.LineEnd},
	{"5 NUL", ok("A: b\x00\r\n"), "", http1.FieldValue},
	{"5 empty name", ok(": b\r\n"), "", http1.FieldName},
	{"5.1 space before the colon", ok("A : b\r\n"), "", http1.FieldColon},
	{"5.2 folded", ok("A: b\r\n c\r\n"), "", http1.FieldFolded},

	{"6.1 chunked", ok("Transfer-Encoding: Chunked\r\n"), `200 "OK" chunked -1`, 0},
	{"6.1 gzip", ok("Transfer-Encoding: gzip, chunked\r\n"), "", http1.Coding},
	{"6.1 twice", ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "", http1.Coding},
	{"6.1 HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", http1.CodingVersion},
	{"6.3 both", ok("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "", http1.LengthAndCoded},
	{"6.3 neither", ok(""), `200 "OK" until close -1`, 0},
	{"6.3 equal lengths", ok("Content-Length: 5\r\nContent-Length: 05\r\n"), `200 "OK" sized 5`, 0},
	{"6.3 a list of equal lengths", ok("Content-Length: 5 ,5\r\n"), `200 "OK" sized 5`, 0},
	{"6.3 differing lengths", ok("Content-Length: 5\r\nContent-Length: 6\r\n"), "", http1.Length},
	{"6.3 a list of differing lengths", ok("Content-Length: 5, 6\r\n"), "", http1.Length},
	{"6.3 a list with nothing", ok("Content-Length: 5,\r\n"), "", http1.Length},
	{"6.3 bad length", ok("Content-Length: -1\r\n"), "", http1.Length},
	{"6.3 empty length", ok("Content-Length:\r\n"), "", http1.Length},
	{"6.3 204", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", `204 "No Content" none -1`, 0},
	{"6.3 204, chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", `204 "No Content" none -1`, 0},
	{"6.3 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", `304 "Not Modified" none 5`, 0},
	{"6.3 304, chunked", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", `304 "Not Modified" none -1`, 0},
	{"6.3 205", "HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\n", `205 "Reset Content" sized 5`, 0},
	{"9110 15.2 100", "HTTP/1.1 100 Continue\r\n\r\n", `100 "Continue" none -1`, 0},
	{"9110 15.2 with a length", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", `103 "Early Hints" none -1`, 0},
	{"9110 15.2.2 101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", `101 "Switching Protocols" none -1 upgrade`, 0},
	{"9110 15.2.2 101 without Connection", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", `101 "Switching Protocols" none -1`, 0},
	{"9110 15.2.2 101 to two", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nUpgrade: b\r\nConnection: upgrade\r\n\r\n", `101 "Switching Protocols" none -1`, 0},
	{"9110 7.6.1 close", ok("Connection: a, Close\r\nContent-Length: 0\r\n"), `200 "OK" sized 0 close`, 0},
	{"events", ok("Content-Type: Text/Event-Stream; charset=utf-8\r\n"), `200 "OK" until close -1 events`, 0},
	{"limits head", ok("A: " + long(64<<10-len(ok("A: \r\n"))) + "\r\n"), `200 "OK" until close -1`, 0},
	{"limits larger head", ok("A: " + long(64<<10-len(ok("A: \r\n"))+1) + "\r\n"), "", http1.HeadTooLarge},
	{"limits endless status line", "HTTP/1.1 200 " + long(64<<10), "", http1.HeadTooLarge},
	{"limits one field more", ok(strings.Repeat("A: b\r\n", 257)), "", http1.ManyFields},
}

func TestResponse(t *testing.T) {
	var r http1.Response
	for _, row := range responseRows {
		r.Reset()
		n, f := r.Parse([]byte(row.text), responseLimits, false)
		if f != row.fault || f == 0 && n != len(row.text) {
			t.Errorf("%s: %d, %v, want %v", row.name, n, f, row.fault)
			continue
		}
		if f == 0 && answers(&r, []byte(row.text)) != row.says {
			t.Errorf("%s: %s, want %s", row.name, answers(&r, []byte(row.text)), row.says)
		}
	}
}

// An answer to HEAD has no body, whatever it says (section 6.3, item 1).
func TestResponseToHead(t *testing.T) {
	for _, tt := range []struct{ lines, want string }{
		{"Content-Length: 5\r\n", `200 "OK" none 5`},
		{"Transfer-Encoding: chunked\r\n", `200 "OK" none -1`},
		{"", `200 "OK" none -1`},
	} {
		var r http1.Response
		buf := []byte(ok(tt.lines))
		if n, f := r.Parse(buf, responseLimits, true); f != 0 || n != len(buf) || answers(&r, buf) != tt.want {
			t.Errorf("%q: %d, %v, %s, want %s", tt.lines, n, f, answers(&r, buf), tt.want)
		}
	}
}
