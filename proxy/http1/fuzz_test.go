package http1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"muster/proxy/http1"
)

// next follows a message on the wire: whoever reads the message otherwise than
// we do does not find it there.
const next = "GET /next HTTP/1.1\r\nHost: next\r\n\r\n"

// A reading is what one parser took a request for.
type reading struct {
	method, target, host, body string
}

// ourReading is what r was taken for; its body is body.
func ourReading(r *http1.Request, buf []byte, target, body string) reading {
	return reading{string(r.Method.In(buf)), target, string(r.Authority.In(buf)), body}
}

// netHTTP reads one request and what follows it as net/http does.
func netHTTP(wire string) (got reading, following string, err error) {
	br := bufio.NewReader(strings.NewReader(wire))
	req, err := http.ReadRequest(br)
	if err != nil {
		return got, "", err
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return got, "", err
	}
	rest, _ := io.ReadAll(br)
	return reading{req.Method, req.RequestURI, req.Host, string(body)}, string(rest), nil
}

// fast does it as fasthttp does.
func fast(wire string) (got reading, following string, err error) {
	br := bufio.NewReaderSize(strings.NewReader(wire), 64<<10)
	var req fasthttp.Request
	if err := req.ReadLimitBody(br, 1<<20); err != nil {
		return got, "", err
	}
	if req.MayContinue() {
		if err := req.ContinueReadBody(br, 1<<20); err != nil {
			return got, "", err
		}
	}
	rest, _ := io.ReadAll(br)
	return reading{string(req.Header.Method()), string(req.Header.RequestURI()), string(req.Header.Host()), string(req.Body())}, string(rest), nil
}

// FuzzRequest: the verdict does not depend on the split, and what is forwarded
// is read by net/http and fasthttp as we meant it. What came and they take too,
// they take for the same.
func FuzzRequest(f *testing.F) {
	for _, row := range requestRows {
		f.Add([]byte(row.text), 7)
	}
	f.Add([]byte(browser), 100)
	f.Add([]byte(odd), 100)
	for _, row := range []string{
		"X-Forwarded-For: 1, 2\r\nForwarded: for=\"[::1]:1\";by=x,;\r\n", "Via: 1.1 a (b, c), 1.1 edge1\r\nA_B: c\r\n", "X-Request-Id: x\r\nX_Secret: 1\r\n",
	} {
		f.Add([]byte("GET /../a HTTP/1.1\r\nHost: a\r\n"+row+"\r\n"), 40)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		for _, rules := range []*http1.Rules{nil, loose} {
			fuzzRequest(t, rules, text, cut)
		}
	})
}

func fuzzRequest(t *testing.T, rules *http1.Rules, text []byte, cut int) {
	whole, parts := http1.Request{Rules: rules}, http1.Request{Rules: rules}
	whole.Reset()
	parts.Reset()
	n, fault := whole.Parse(text, requestLimits)
	m, other := parts.Parse(text[:min(max(cut, 0), len(text))], requestLimits)
	if m == 0 && other == 0 {
		m, other = parts.Parse(text, requestLimits)
	}
	if n != m || fault != other {
		t.Fatalf("%d, %v as a whole; %d, %v in parts", n, fault, m, other)
	}
	if n == 0 || whole.Body == http1.Sized && whole.Length > 1000 {
		return
	}
	body, wireBody := "", ""
	switch whole.Body {
	case http1.Sized:
		body = strings.Repeat("x", int(whole.Length))
		wireBody = body
	case http1.Chunked:
		body, wireBody = "xyz", "3\r\nxyz\r\n0\r\n\r\n"
	}
	head := string(whole.AppendHead(nil, text, hop))
	target := strings.Fields(head)[1]
	want := ourReading(&whole, text, target, body)
	if want.host == "" {
		want.host = hop.Host
	}
	for name, read := range map[string]func(string) (reading, string, error){"net/http": netHTTP, "fasthttp": fast} {
		got, rest, err := read(head + wireBody + next)
		if err != nil {
			t.Errorf("%s refuses what we forward: %v\n%s", name, err, head)
		} else if got != want || rest != next {
			t.Errorf("%s reads what we forward as %q, and then %q, want %q\n%s", name, got, rest, want, head)
		}
		// What came, from the request line on.
		raw := strings.TrimLeft(string(text[:n]), "\r\n") + wireBody + next
		if got, rest, err := read(raw); err == nil && (got.method != want.method || got.body != body || rest != next || got.host != want.host && whole.Authority.Len() > 0 && got.host != string(hostField(&whole, text))) {
			t.Errorf("%s reads what came as %q, and then %q, want %q\n%s", name, got, rest, want, raw)
		}
	}
}

// hostField is the value of Host.
func hostField(r *http1.Request, buf []byte) []byte {
	for _, f := range r.Fields() {
		if f.ID == http1.Host {
			return f.Value.In(buf)
		}
	}
	return nil
}

// FuzzResponse: likewise for answers.
func FuzzResponse(f *testing.F) {
	for _, row := range responseRows {
		f.Add([]byte(row.text), 7, false)
		f.Add([]byte(row.text), 7, true)
	}
	f.Add([]byte(answer), 100, false)
	f.Fuzz(func(t *testing.T, text []byte, cut int, toHead bool) {
		var whole, parts http1.Response
		n, fault := whole.Parse(text, responseLimits, toHead)
		m, other := parts.Parse(text[:min(max(cut, 0), len(text))], responseLimits, toHead)
		if m == 0 && other == 0 {
			m, other = parts.Parse(text, responseLimits, toHead)
		}
		if n != m || fault != other {
			t.Fatalf("%d, %v as a whole; %d, %v in parts", n, fault, m, other)
		}
		if n == 0 || whole.Interim() || whole.Body == http1.Sized && whole.Length > 1000 {
			return
		}
		head := string(whole.AppendHead(nil, text, &http1.Reply{Minor: 1, RequestID: []byte("id")}))
		body, wireBody := "", ""
		switch whole.Framing(1) {
		case http1.Sized:
			body = strings.Repeat("x", int(whole.Length))
			wireBody = body
		case http1.Chunked:
			body, wireBody = "xyz", "3\r\nxyz\r\n0\r\n\r\n"
		}
		method := "GET"
		if toHead {
			method = "HEAD"
		}
		br := bufio.NewReader(strings.NewReader(head + wireBody + next))
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses what we pass on: %v\n%s", err, head)
		}
		got, err := io.ReadAll(res.Body)
		rest, _ := io.ReadAll(br)
		if err != nil || res.StatusCode != whole.Status || string(got) != body || string(rest) != next {
			t.Errorf("net/http reads what we pass on as %d %q, then %q, %v, want %d %q\n%s", res.StatusCode, got, rest, err, whole.Status, body, head)
		}
		var fastRes fasthttp.Response
		fastRes.SkipBody = toHead
		br = bufio.NewReaderSize(strings.NewReader(head+wireBody+next), 128<<10)
		if err := fastRes.Read(br); err != nil {
			t.Fatalf("fasthttp refuses what we pass on: %v\n%s", err, head)
		}
		rest, _ = io.ReadAll(br)
		if fastRes.StatusCode() != whole.Status || string(fastRes.Body()) != body || string(rest) != next {
			t.Errorf("fasthttp reads what we pass on as %d %q, then %q, want %d %q\n%s", fastRes.StatusCode(), fastRes.Body(), rest, whole.Status, body, head)
		}
	})
}

// FuzzChunks: likewise for chunked bodies. One that we take net/http and
// fasthttp take too, for the same content, and find the next request behind it.
func FuzzChunks(f *testing.F) {
	for _, row := range chunkRows {
		f.Add([]byte(row.text), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		var whole, parts http1.Chunks
		content, _, rest, fault := drain(&whole, string(text), nil)
		inParts, _, rest2, fault2 := drain(&parts, string(text), []int{min(max(cut, 0), len(text))})
		if content != inParts && fault == 0 || rest != rest2 || fault != fault2 || whole.Done() != parts.Done() {
			t.Fatalf("%q, %q, %v as a whole; %q, %q, %v in parts", content, rest, fault, inParts, rest2, fault2)
		}
		if !whole.Done() {
			return
		}
		taken := string(text[:len(text)-len(rest)])
		wire := "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
		// As we would write it.
		var ours bytes.Buffer
		if content != "" {
			fmt.Fprintf(&ours, "%s%s\r\n", http1.AppendChunk(nil, len(content)), content)
		}
		ours.WriteString("0\r\n\r\n")
		for name, read := range map[string]func(string) (reading, string, error){"net/http": netHTTP, "fasthttp": fast} {
			if got, rest, err := read(wire + ours.String() + next); err != nil || got.body != content || rest != next {
				t.Errorf("%s reads what we write as %q, then %q, %v, want %q", name, got.body, rest, err, content)
			}
			if got, rest, err := read(wire + taken + next); err == nil && (got.body != content || rest != next) {
				t.Errorf("%s reads %s as %q, then %q, want %q", name, strconv.Quote(taken), got.body, rest, content)
			}
		}
	})
}
