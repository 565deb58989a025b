package http1_test

import (
	"strings"
	"testing"

	"muster/proxy/http1"
)

// A chunkRow is a body and what it is: content, trailers, or what is wrong.
type chunkRow struct {
	name, text string
	content    string
	fault      http1.Fault
}

// chunkRows are named by the sections of RFC 9112. Those that are right are
// followed by "rest" on the wire.
var chunkRows = []chunkRow{
	{"7.1 empty", "0\r\n\r\n", "", 0},
	{"7.1 one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello", 0},
	{"7.1 two chunks", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "hello!", 0},
	{"7.1 hex", "a\r\n0123456789\r\nB\r\n0123456789-\r\n0\r\n\r\n", "01234567890123456789-", 0},
	{"7.1 leading zeros", "0000000000000005\r\nhello\r\n000\r\n\r\n", "hello", 0},
	{"7.1 data that looks like chunks", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n", 0},
	{"7.1 17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", "", http1.ChunkSize},
	{"7.1 largest", "7fffffffffffffff\r\nx", "x", 0},
	{"7.1 larger", "8000000000000000\r\nx", "", http1.ChunkSize},
	{"7.1 no digits", "\r\nhello\r\n0\r\n\r\n", "", http1.ChunkSize},
	{"7.1 only an extension", ";a\r\n\r\n", "", http1.ChunkSize},
	{"7.1 0x", "0x5\r\nhello\r\n0\r\n\r\n", "", http1.ChunkSize},
	{"7.1 sign", "+5\r\nhello\r\n0\r\n\r\n", "", http1.ChunkSize},
	{"7.1 minus", "-1\r\n\r\n", "", http1.ChunkSize},
	{"7.1 underscore", "1_0\r\n", "", http1.ChunkSize},
	{"7.1 space before", " 5\r\nhello\r\n0\r\n\r\n", "", http1.ChunkSize},
	{"7.1 space behind", "5 \r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1 tab behind", "5\t\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1 bare LF behind the size", "5\nhello\r\n0\r\n\r\n", "", http1.ChunkSize},
	{"7.1 bare CR behind the size", "5\rhello\r\n0\r\n\r\n", "", http1.LineEnd},
	{"7.1 two CR", "5\r\r\nhello\r\n0\r\n\r\n", "", http1.LineEnd},
	{"7.1 data too long", "5\r\nhello!\r\n0\r\n\r\n", "hello", http1.ChunkEnd},
	{"7.1 data too short", "5\r\nhell\r\n0\r\n\r\n", "hell\r", http1.ChunkEnd},
	{"7.1 bare LF behind the data", "5\r\nhello\n0\r\n\r\n", "hello", http1.ChunkEnd},
	{"7.1 two bytes behind the data", "5\r\nhelloxx0\r\n\r\n", "hello", http1.ChunkEnd},
	{"7.1 bare CR behind the data", "5\r\nhello\rx0\r\n\r\n", "hello", http1.ChunkEnd},
	{"7.1 bare LF at the end", "0\r\n\n", "", http1.LineEnd},
	{"7.1 bare CR at the end", "0\r\n\rx\n", "", http1.LineEnd},

	{"7.1.1 extensions", "5;a;b=c;d=\"e;\\\"\r\"\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 all kinds", "5 ; a ;b = c\t;d=\"e;\\\"\t\x80 \" ; f\r\nhello\r\n0;x\r\n\r\n", "hello", 0},
	{"7.1.1 quoted value and more", "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 nothing", "5;\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 space at the end", "5;a \r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 space behind a value", "5;a=b \r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 no value", "5;a=\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 open quotes", "5;a=\"\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 bare LF in it", "5;a\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 bare LF in quotes", "5;a=\"b\nc\"\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 quoted LF", "5;a=\"\\\n\"\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 bare CR in it", "5;a\rb\r\nhello\r\n0\r\n\r\n", "", http1.LineEnd},
	{"7.1.1 NUL", "5;\x00\r\nhello\r\n0\r\n\r\n", "", http1.ChunkExt},
	{"7.1.1 long line", "5;" + long(510) + "\r\nhello\r\n0\r\n\r\n", "hello", 0},
	{"7.1.1 longer line", "5;" + long(511) + "\r\nhello\r\n0\r\n\r\n", "", http1.ChunkLine},
	{"7.1.1 endless line", "5;" + long(2000), "", http1.ChunkLine},

	{"7.1 one-byte chunks", strings.Repeat("1\r\nx\r\n", 20000) + "0\r\n\r\n", strings.Repeat("x", 20000), 0},
	{"7.1 waste", strings.Repeat("1;"+long(400)+"\r\nx\r\n", 100) + "0\r\n\r\n", strings.Repeat("x", 42), http1.ChunkWaste},

	{"7.1.2 trailers", "0\r\nA: b\r\nX-Sum:  42 \r\n\r\n", "A: b\r\nX-Sum: 42\r\n", 0},
	{"7.1.2 not announced", "0\r\nB: c\r\nA: b\r\n\r\n", "A: b\r\n", 0},
	{"7.1.2 folded", "0\r\nA: b\r\n c\r\n\r\n", "", http1.FieldFolded},
	{"7.1.2 no token", "0\r\nA(: b\r\n\r\n", "", http1.FieldName},
	{"7.1.2 no colon", "0\r\nGET / HTTP/1.1\r\n\r\n", "", http1.FieldColon},
	{"7.1.2 NUL", "0\r\nA: \x00\r\n\r\n", "", http1.FieldValue},
	{"7.1.2 bare LF", "0\r\nA: b\n\r\n", "", http1.LineEnd},
	{"7.1.2 32 lines", "0\r\n" + strings.Repeat("B: c\r\n", 32) + "\r\n", "", 0},
	{"7.1.2 33 lines", "0\r\n" + strings.Repeat("B: c\r\n", 33) + "\r\n", "", http1.ManyFields},
	{"7.1.2 8 KiB", "0\r\nA: " + long(8<<10), "", http1.HeadTooLarge},
}

// drain reads a chunked body that comes in pieces cut at those places: content,
// trailers, what is left behind it, and what is wrong.
func drain(c *http1.Chunks, text string, cuts []int) (content, trailers, rest string, f http1.Fault) {
	var out, pending []byte
	at := 0
	for _, cut := range append(cuts, len(text)) {
		if cut < at {
			continue
		}
		pending = append(pending, text[at:cut]...)
		at = cut
		for {
			data, n, f := c.Next(pending)
			out = append(out, data...)
			if f != 0 {
				return string(out), "", "", f
			}
			if c.Done() {
				trailers := c.AppendTrailers(nil, pending, []byte("a, X-Sum"))
				return string(out), string(trailers), string(pending[n:]) + text[at:], 0
			}
			if n == 0 {
				break
			}
			pending = pending[n:]
		}
	}
	return string(out), "", string(pending), 0
}

func TestChunks(t *testing.T) {
	var c http1.Chunks
	for _, row := range chunkRows {
		c.Reset()
		text := row.text
		if row.fault == 0 {
			text += "rest"
		}
		content, trailers, rest, f := drain(&c, text, nil)
		if row.name == "7.1 largest" {
			row.content += "rest"
		}
		if content+trailers != row.content || f != row.fault {
			t.Errorf("%s: %q, %v, want %q, %v", row.name, content, f, row.content, row.fault)
		}
		if c.Done() && rest != "rest" {
			t.Errorf("%s: %q is left, want rest", row.name, rest)
		}
		if f != 0 && f.Status() != 400 && f.Status() != 431 {
			t.Errorf("%s: status %d", row.name, f.Status())
		}
	}
}

func TestAppendChunk(t *testing.T) {
	for n, want := range map[int]string{1: "1\r\n", 0xabc: "abc\r\n", 1<<63 - 1: "7fffffffffffffff\r\n"} {
		got := string(http1.AppendChunk(nil, n))
		if got != want || len(got) > http1.ChunkHead {
			t.Errorf("AppendChunk(%d): %q, want %q", n, got, want)
		}
	}
}
